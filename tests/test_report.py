# SPDX-License-Identifier: Apache-2.0
"""The report: its figures are the trials', what is missing says so, and the page loads, fits and can be walked."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_run import IMAGES, WEIGHTS, manifest, store, trials, voted_faults, write_run
from scipy import stats

from bitward.campaign import TrialStore
from bitward.cli import main
from bitward.errors import ConfigError, OutputError, StoreError
from bitward.formats import Int
from bitward.manifest import Memory
from bitward.report import write_report
from bitward.report.heatmap import HOT, WARM, heat_maps
from bitward.report.load import Trials
from bitward.report.plots import heat_map
from bitward.report.statistics import Stratum, combine, strata
from bitward.schemes import Plain, Tmr
from bitward.statistics import finite
from bitward.tools import find_tool, run

SIDES = ("plain", "hardened")
VOID = {"meta", "link", "input", "br", "wbr", "img", "hr"}


class Page(HTMLParser):
    """A page as text, ids, attributes and table cells; refuses tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.says: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if ("class", "vh says") in attrs:
            self.says.append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if self.open[-1] == "span" and self.says and not self.says[-1]:
                self.says[-1] = data

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run: its folder, its trials, its report."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    found = write_run(folder)
    return folder, found, write_report(folder).read_text(encoding="utf-8")


@pytest.fixture
def copied(whole, tmp_path):
    """The folder of a whole run, to be damaged."""
    return shutil.copytree(whole[0], tmp_path / "run")


def edit(folder, **changes):
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def text_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8")).text


# -- figures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "title"), [("outputs_changed", "output value"), ("top1_changed", "top-1 answer")])
def test_every_square_says_what_its_trials_say(whole, metric, title):
    _, found, html = whole
    cells = [says for says in Page(html).says if says.endswith(title)]
    expected = []
    for side in SIDES:
        tried, hit = Counter(), Counter()
        for trial in found[f"strata-{side}"]:
            tried[trial.memory, trial.parameter_bit, trial.copy] += 1
            hit[trial.memory, trial.parameter_bit, trial.copy] += getattr(trial, metric) > 0
        sizes = {memory.name: memory.parameters for memory in manifest(side).memories}
        for (memory, bit, copy), count in tried.items():
            where = f"{memory}, bit {bit}{f', copy {copy}' if copy else ''}"
            expected.append((where, hit[memory, bit, copy], count, count == sizes[memory]))
    assert len(cells) == len(expected)
    for where, count, total, census in expected:
        says = next(
            s
            for s in cells
            if re.match(rf"{re.escape(where)}(?: \(voted\))?: ", s) and f"({count} of {total} faults)" in s
        )
        assert ("census" in says) == census
        cells.remove(says)


def test_an_interval_holds_what_more_than_a_fortieth_of_campaigns_would_show(whole):
    """The ends of each stratum's interval are the last numbers of faults whose tails are above 2.5 %: brute force."""
    sizes = {(side, memory.name): memory.parameters for side in SIDES for memory in manifest(side).memories}
    checked = 0
    for says in {s for s in Page(whole[2]).says if "finite population" in s}:
        name = says.split(",")[0]
        (size,) = {size for (_, memory), size in sizes.items() if memory == name}
        count, total = map(int, re.search(r"\((\d+) of (\d+) faults\)", says).groups())
        likely = [
            d / size
            for d in range(size + 1)
            if stats.hypergeom.sf(count - 1, size, d, total) > 0.025
            and stats.hypergeom.cdf(count, size, d, total) > 0.025
        ]
        printed = [float(p) / 100 for p in re.findall(r"([\d.]+)\u202f%", says.split("interval")[1])]
        if count == 0:
            printed = [0.0, float(re.search(r"at most ([\d.]+)", says)[1]) / 100]
        assert printed == pytest.approx([likely[0], likely[-1]], abs=0.0006)
        checked += 1
    assert checked > 10


def test_every_interval_says_its_method_and_none_is_wilsons(whole):
    text = Page(whole[2]).text
    assert text.count("interval") > 20 and "Wilson" not in text
    shown = re.findall(r"(?:95\u202f% interval [^()]*|at most [^()]*) ?\(([^)]*)\)", text)
    kinds = {kind.removeprefix("95\u202f% interval, ") for kind in shown}
    assert kinds == {"finite population", "strata added in squares", "exact, Clopper-Pearson"}


def test_strata_at_one_rate_are_pooled_exactly_and_a_single_one_is_a_finite_population():
    pooled = combine([stratum(100, 20, 3), stratum(300, 60, 0)], "outputs_changed")
    expected = stats.binomtest(3, 80).proportion_ci(0.95, method="exact")
    assert (pooled.low, pooled.high) == pytest.approx((expected.low, expected.high))
    assert pooled.method == "exact, Clopper-Pearson"
    single = combine([stratum(100, 20, 3)], "outputs_changed")
    assert single.method == "finite population" and single.masked.method == "finite population"
    assert (single.low, single.high) == (finite(3, 20, 100).low, finite(3, 20, 100).high)
    assert (single.masked.low, single.masked.high) == pytest.approx((1 - single.high, 1 - single.low))
    uneven = combine([stratum(100, 20, 3), stratum(300, 20, 0)], "outputs_changed")
    assert uneven.method == "strata added in squares"
    assert combine([stratum(10, 10, 3)], "outputs_changed").method == "census"


def test_the_headline_counts_faults(whole):
    _, found, html = whole
    text = Page(html).text
    for side in SIDES:
        rows = found[f"msb-{side}"]
        changed = sum(row.outputs_changed > 0 for row in rows)
        top1 = sum(row.top1_changed > 0 for row in rows)
        assert f"{changed} of {len(rows)}" in text
        assert f"of faults changed an output value, {top1} changed a top-1 answer" in text
    assert sum(row.outputs_changed for row in found["msb-hardened"]) == 0
    assert text.count(f"was flipped: a census, on {IMAGES} images each") == 2
    for figure in (
        "97.25\u202f%",
        "1,005,025 frames/s",
        "50.0\u202f% more",
        "360 of 360",
        "+2",
        "LUT in voters",
        "+10",
    ):
        assert figure in text
    agreed = len(found["agree-rtl"])
    assert f"{agreed} of {agreed} faults with equal outputs" in text
    assert "no board was timed" in text


def test_masked_faults_are_those_that_change_nothing(whole):
    _, found, html = whole
    for side in SIDES:
        for memory in manifest(side).memories:
            rows = [row for row in found[f"strata-{side}"] if row.memory == memory.name]
            masked = sum(row.outputs_changed == 0 for row in rows)
            assert f"({masked} of {len(rows)} faults)" in Page(html).text


def test_the_worst_faults_are_listed(whole):
    _, found, html = whole
    text = Page(html).text
    for side in SIDES:
        lowest = min(row.top1_correct for row in found[f"strata-{side}"])
        golden = f"Without a fault: {IMAGES - 1} of {IMAGES} images right."
        assert f"{golden} Under the worst fault of the sample: {lowest} of {IMAGES}." in text


def stratum(size, tried, changed):
    memory = Memory("m", "l", "t", "weight", (size,), Int(1), Plain(1))
    return Stratum(memory, 0, size, tried, changed, 0)


def test_a_census_has_no_interval():
    share = combine([stratum(10, 10, 3), stratum(30, 30, 3)], "outputs_changed")
    assert (share.value, share.low, share.high, share.is_census) == (0.15, 0.15, 0.15, True)


def test_strata_are_weighted_by_size():
    share = combine([stratum(100, 10, 10), stratum(300, 10, 0)], "outputs_changed")
    assert share.value == 0.25
    assert 0 < share.low < 0.25 < share.high < 1


def test_a_trial_that_failed_counts_as_one_that_changed_everything(tmp_path):
    design = manifest("plain")
    rows = [replace(row, outputs_changed=0, top1_changed=0) for row in trials(design, voted_faults(design)[:9])]
    failed = replace(rows[4], outputs_changed=None, top1_changed=None, outputs_sha256=None, status="failed")
    rows[4] = replace(failed, top1_correct=None)
    store(tmp_path / "store", rows)
    table = TrialStore.load(tmp_path / "store").read()
    (found,) = [stratum for stratum in strata(design, table) if stratum.tried]
    assert (found.tried, found.outputs_changed, found.top1_changed) == (9, 1, 1)
    assert Trials("x", table, 9, "", {}, None).count("top1_changed") == 1


def test_a_stratum_without_trials_leaves_the_whole_unmeasured():
    assert combine([stratum(10, 10, 3), stratum(30, 0, 0)], "outputs_changed") is None


def test_intervals_over_strata_cover_the_truth():
    random = np.random.default_rng(1)
    sizes, shares, tried = (4000, 1000, 50), (0.02, 0.6, 0.5), (60, 60, 50)
    hits = [int(size * share) for size, share in zip(sizes, shares, strict=True)]
    truth, covered = sum(hits) / sum(sizes), 0
    for _ in range(500):
        drawn = [random.hypergeometric(h, s - h, t) for h, s, t in zip(hits, sizes, tried, strict=True)]
        parts = [stratum(s, t, int(d)) for s, t, d in zip(sizes, tried, drawn, strict=True)]
        share = combine(parts, "outputs_changed")
        covered += share.low <= truth <= share.high
    assert covered >= 465  # 95 % less three standard deviations


# -- the flow's own fault model ---------------------------------------------------------------------------------------


def add_model(folder, side, spec, flips, result, planned=60):
    """Trials of several faults each, the first ten of which changed a decision."""
    design = manifest(side)
    one = trials(design, voted_faults(design)[:1])[0]
    nowhere = dict.fromkeys(("memory", "layer", "role", "word", "bit", "parameter", "replica", "stored_bit", "copy"))
    rows = [
        replace(
            one, trial=n, **nowhere, parameter_bit=None, flips=flips(n), outputs_changed=3, top1_changed=int(n < 10)
        )
        for n in range(60)
    ]
    with TrialStore.open(folder / "campaigns" / f"model-{side}", {"faults": planned, **spec}) as kept:
        kept.append(rows)
        if result is not None:
            kept.set_result({"restored_golden": True, "trials": 60, **result})


BER = {"model": "ber", "seed": 1, "memories": None, "stuck": None, "ber": 1e-4, "bits": None}
INTERVAL = {"low": 0.08, "high": 0.28, "estimate": 1 / 6, "trials": 60}


def test_flips_stand_beside_a_rate_and_the_method_beside_an_interval(copied):
    rule = {"metric": "top1_changed", "margin": 0.1, "confidence": 0.95, "method": "beta-binomial"}
    ended = {"ended": "margin reached", "interval": INTERVAL}
    add_model(copied, "plain", {"model": BER, "stopping": rule}, lambda n: 10 + n % 5, ended, planned=5000)
    add_model(
        copied,
        "hardened",
        {"model": BER, "stopping": None},
        lambda n: 21,
        {"ended": "all trials done", "interval": None},
    )
    text = text_of(copied)
    assert "Plain model ber, ber 0.0001, seed 1 12 flips a trial (10 to 14) 60 x 20 images 60 10" in text
    assert "top1_changed 16.7\u202f%, 8.0\u202f% to 28.0\u202f% (95 % confidence sequence (beta-binomial))" in text
    assert "Hardened model ber, ber 0.0001, seed 1 21 flips a trial 60 x 20 images" in text
    assert "no interval: these trials are no random sample" in text
    assert "60 trials of 12 flips a trial (10 to 14) x 20 images" in text
    assert "stopped early" not in text  # the rule was met
    assert "configuration memory were not injected" in text and "of several bits at once" not in text


def test_without_such_a_campaign_the_page_says_nothing_of_it(whole):
    text = Page(whole[2]).text
    assert "own fault model" not in text and "and of several bits at once, were not injected" in text


def test_a_campaign_that_has_not_ended_has_no_interval(copied):
    add_model(copied, "plain", {"model": BER}, lambda n: 2, None, planned=100)
    text = text_of(copied)
    assert "no interval: not ended yet" in text and "stopped early, model-plain: 60 of 100" in text


def test_cells_have_no_numbers_where_there_is_no_room_for_them():
    word = Memory("m", "l", "t", "threshold", (2,), Int(20), Tmr(20, 20))
    plain = [Stratum(replace(word, scheme=Plain(20)), bit, 2, 2, 1, 0) for bit in range(20)]
    hardened = [Stratum(word, bit, 2, 2, 0, 0) for bit in range(60)]
    found = heat_maps({"plain": plain, "hardened": hardened})[0]
    (group,) = found.groups
    assert group.is_packed and [panel.is_crowded for panel in group.panels] == [False, True]
    drawn = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in heat_map(found, "a map").axes]
    numbers = [str(bit) for bit in range(19, -1, -1)]
    assert drawn == [numbers, [name for each in numbers for name in (each, "", "")]], "copies stand unnamed behind"
    (group,) = heat_maps({"plain": plain[:18], "hardened": plain[:18]})[0].groups
    assert group.is_wide and not group.is_packed


# -- what is missing ----------------------------------------------------------------------------------------------

MISSING = [
    ("msb-plain", "The campaign msb-plain has no trials"),
    ("msb-hardened", "The campaign msb-hardened has no trials"),
    ("strata-plain", "The campaign strata-plain has no trials"),
    ("strata-hardened", "The campaign strata-hardened has no trials"),
    ("agree-board", "The campaign agree-board has no trials"),
]


@pytest.mark.parametrize(("campaign", "reason"), MISSING, ids=[name for name, _ in MISSING])
def test_a_campaign_that_is_missing_is_not_measured(copied, campaign, reason):
    shutil.rmtree(copied / "campaigns" / campaign)
    text = text_of(copied)
    assert f"Not measured. {reason}" in text
    assert f"Campaigns without trials: {campaign}." in text


def test_a_run_that_measured_nothing_claims_nothing(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    text = text_of(tmp_path)
    assert text.count("Not measured.") >= 14
    assert not re.search(r"\d of \d|\d\u202f%|holds|0 images", text)


def test_what_the_summary_calls_not_measured_is_no_figure(copied):
    sides = dict.fromkeys(SIDES, "not measured")
    unmeasured = dict.fromkeys(("accuracy", "rtl_equal_images", "weight_memory_bits"), "not measured")
    edit(copied, **unmeasured, steady_cycles_per_image=sides, latency_cycles=sides, resources=sides)
    text = text_of(copied)
    for figure in ("accuracy", "rtl_equal_images", "weight_memory_bits.plain", "steady_cycles_per_image.plain"):
        assert f"Not measured. summary.json has no {figure}: " in text
    assert "Not measured. No synthesis was run on the plain build" in text
    assert "Latency of one image, cycles not measured not measured" in text


def test_a_model_that_was_not_trained_here_is_judged_where_it_was_compared(copied):
    assert "top-1 on the test images" in text_of(copied)
    seeds = {"train": [], "exported": None, "inject": 1}
    edit(copied, accuracy_seeds="not measured", images=7, settings={"model": "mine.onnx"}, seeds=seeds)
    text = text_of(copied)
    assert "Seeds inject 1" in text
    assert "top-1 on 7 test images" in text and "The network was trained before this run." in text


def test_a_campaign_that_was_stopped_says_so(copied):
    rows = trials(manifest("hardened"), voted_faults(manifest("hardened")), "rtl")[:100]
    shutil.rmtree(copied / "campaigns" / "msb-hardened")
    store(copied / "campaigns" / "msb-hardened", rows, planned=432)
    text = text_of(copied)
    assert "Stopped early: 432 faults were planned." in text
    assert "– open Every planned fault was injected stopped early, msb-hardened: 100 of 432" in text


def test_a_missing_build_does_not_hide_the_rest(copied):
    shutil.rmtree(copied / "build" / "plain")
    text = text_of(copied)
    assert "Not measured. build/plain has no manifest" in text
    assert "Design id, plain not built" in text


def test_a_check_that_fails_leads_the_page(copied):
    edit(copied, targets_agree={"compared": 3, "equal": 3}, negative_controls={"one_voter_removed": "passes"})
    text = text_of(copied)
    assert "✗ A check fails: summary.json says what the trials say." in text
    assert "✗ A check fails: Negative control: one voter removed." in text
    assert text.index("A check fails") < text.index("Flip a bit that voting protects")


def test_targets_that_disagree_fail_a_check(copied):
    rows = trials(manifest("hardened"), voted_faults(manifest("hardened"))[:9], "board")
    for on in ("engine", "rtl", "board"):
        shutil.rmtree(copied / "campaigns" / f"agree-{on}")
        same = [
            row if (on, row.trial) != ("rtl", 4) else type(row)(**{**vars(row), "outputs_sha256": "x"}) for row in rows
        ]
        store(copied / "campaigns" / f"agree-{on}", same)
    assert "✗ fails Engine, RTL and board agree under faults 8 of 9" in text_of(copied)


# -- the file -----------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing(whole):
    folder, _, html = whole
    page = Page(html)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in page.attributes:
        assert not (name in ("src", "srcset", "data") or "//" in value), (tag, name, value)
        if name == "href" and value != "data:,":
            assert value.startswith("#") and value[1:] in ids
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html
    assert (folder / "report.html").stat().st_size < 2_000_000


def test_names_cannot_become_markup(copied):
    edit(copied, flow="<script>alert(1)</script>")
    html = write_report(copied).read_text(encoding="utf-8")
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html


def test_the_command_writes_where_it_is_told(whole, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(whole[0]), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8") == whole[2]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^.+ must be a run's folder, got one without summary.json: run bitward run"):
        write_report(tmp_path)


@pytest.mark.parametrize(("content", "got"), [("{", "Expecting"), ("[]", "a list")])
def test_a_damaged_summary_is_refused(tmp_path, content, got):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ConfigError, match=rf"^.+/summary.json must be .*JSON.*, got {got}.*: run the flow again$"):
        write_report(tmp_path)


def test_trials_of_another_design_are_refused(copied):
    for path in (copied / "build").glob("*/manifest.json"):
        path.write_text(path.read_text().replace("fc.weight", "fc9.weight"))
    with pytest.raises(StoreError, match=r"^trials must be of design toy's memories, got fc.weight: they belong to"):
        write_report(copied)


def test_an_output_that_cannot_be_written_is_an_error(whole, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.+ must be below a folder, got "):
        write_report(whole[0], tmp_path / "file" / "report.html")


# -- in a browser -------------------------------------------------------------------------------------------------

PROBE = """<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:900px"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView, found = {{}};
  found.overflow = page.documentElement.scrollWidth - {width};
  const cells = [...page.querySelectorAll("#map-outputs_changed td[tabindex]")];
  cells[0].focus();
  cells[0].dispatchEvent(new view.KeyboardEvent("keydown", {{ key: "ArrowRight", bubbles: true }}));
  found.focused = page.activeElement.querySelector(".says").textContent;
  found.readout = page.querySelector("#map-outputs_changed .readout").textContent;
  page.querySelector("#metric-top1_changed").click();
  found.shown = [...page.querySelectorAll(".map")].map((map) => view.getComputedStyle(map).display);
  const light = (color) => {{
    const pen = new OffscreenCanvas(1, 1).getContext("2d");
    pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }};
  const cell = page.querySelector("#map-top1_changed td.measured");
  found.contrast = [...Array(101).keys()].map((at) => {{
    cell.style.setProperty("--v", at / 100);
    cell.classList.toggle("hot", at >= {hot}); cell.classList.toggle("warm", at >= {warm});
    const style = view.getComputedStyle(cell), [a, b] = [light(style.color), light(style.backgroundColor)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }}).reduce((a, b) => Math.min(a, b));
  document.body.textContent = JSON.stringify(found);
}};
</script>"""


@pytest.fixture(scope="module")
def chromium():
    path = find_tool("chromium")
    if path is None:
        pytest.skip("Chromium is not on PATH: the page is not looked at (Debian: apt-get install chromium)")
    return [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_can_be_walked(whole, chromium, tmp_path, width, scheme):
    probe = tmp_path / "probe.html"
    page = (whole[0] / "report.html").as_uri()
    probe.write_text(PROBE.format(page=page, width=width, hot=round(100 * HOT), warm=round(100 * WARM)))
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    command = [*chromium, *dark, "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'chromium'}"]
    size = f"--window-size={width + 40},900"
    output = run([*command, size, "--virtual-time-budget=4000", "--dump-dom", probe.as_uri()], timeout_s=60).stdout
    assert "CONSOLE" not in output
    found = json.loads(re.search(r"<body[^>]*>(\{.*?\})</body>", output, re.DOTALL)[1])
    assert found["overflow"] <= 0
    assert found["focused"].startswith(f"{next(iter(WEIGHTS))}, bit 2: ")
    assert found["readout"] == found["focused"]
    assert found["shown"] == ["none", "block"]
    assert found["contrast"] >= 4.5  # of a square's number, whatever the share
