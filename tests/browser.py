# SPDX-License-Identifier: Apache-2.0
"""What headless Chromium finds on a page: what a reader on a phone, with a keyboard or by ear would stumble over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bitward.tools import find_tool, run

SIZES = [(1280, "light"), (390, "light"), (390, "dark")]
PROBE = """<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:900px"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView, found = {{}};
  const all = (what) => [...page.querySelectorAll(what)];
  const name = (one) => one.tagName + "." + one.getAttribute("class") + " " + one.textContent.trim().slice(0, 40);
  found.overflow = page.documentElement.scrollWidth - {width};
  found.language = page.documentElement.lang;
  found.title = page.title;
  const levels = all("h1,h2,h3,h4,h5,h6").map((one) => +one.tagName[1]);
  found.skipped = levels.filter((level, at) => level > (at ? levels[at - 1] : 0) + 1).length;
  found.firsts = levels.filter((level) => level === 1).length;
  found.speechless = all("svg:not([aria-hidden]):not([aria-label]), img:not([alt]), img[alt='']").map(name);
  found.loose = all("table").filter((one) => !one.closest(".scroll")).map(name);
  const shown = (one) => one.getClientRects().length && !one.closest("details:not([open]) > :not(summary)");
  const stops = all("a[href], input, summary, [tabindex='0']").filter(shown);
  found.stops = stops.length;
  found.unfocused = stops.filter((one) => {{ one.focus(); return page.activeElement !== one; }}).map(name);
  found.ringless = stops.filter((one) => {{
    one.focus();
    const ring = one.matches(".switch input") ? one.nextElementSibling : one;
    return view.getComputedStyle(ring).outlineStyle === "none";
  }}).map(name);
  const wide = (one) => one.getBoundingClientRect().width > {width};
  found.cut = all("h1, h2, h3, p, .tile, .panel").filter((one) => !one.closest(".scroll") && wide(one)).map(name);
  document.body.textContent = JSON.stringify(found);
}};
</script>"""


def chromium() -> list[str]:
    """The command line of a headless browser; skips the test where there is none."""
    path = find_tool("chromium")
    if path is None:
        pytest.skip("Chromium is not on PATH: the page is not looked at (Debian: apt-get install chromium)")
    return [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]


def looked_at(page: Path, folder: Path, width: int, scheme: str) -> dict[str, Any]:
    """What the browser found; fails where the console says anything."""
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(page=page.resolve().as_uri(), width=width))
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    command = [*chromium(), *dark, "--enable-logging=stderr", f"--user-data-dir={folder / 'chromium'}"]
    size = f"--window-size={width + 40},900"
    output = run([*command, size, "--virtual-time-budget=4000", "--dump-dom", probe.as_uri()], timeout_s=90).stdout
    assert "CONSOLE" not in output
    return json.loads(re.search(r"<body[^>]*>(\{.*\})</body>", output, re.DOTALL)[1])


def complaints(found: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with a page: nothing, if it is as it should be."""
    wrong = {
        name: value for name, value in found.items() if name not in ("language", "title", "stops", "firsts") and value
    }
    wrong = {name: value for name, value in wrong.items() if name != "overflow" or value > 0}
    if found["language"] != "en" or "bitward" not in found["title"] or found["firsts"] != 1 or found["stops"] < 4:
        wrong["page"] = {name: found[name] for name in ("language", "title", "firsts", "stops")}
    return wrong
