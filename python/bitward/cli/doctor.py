# SPDX-License-Identifier: Apache-2.0
"""Say what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import json

import click

from bitward import doctor

SECTION = "First steps"


@click.command()
@click.option("--host", help="Address of a board to reach.")
@click.option("--port", type=click.IntRange(1, 65535), default=doctor.PYNQ_PORT, show_default=True, help="Its port.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, host: str | None, port: int, as_json: bool) -> None:
    """Check this machine: one numbered PASS, FAIL or SKIP line each.

    The exit code is 1 when something that bitward needs is missing.
    """
    findings = []
    for number, finding in enumerate(doctor.examine(host, port), start=1):
        findings.append(finding)
        if not as_json:
            click.echo(doctor.as_line(number, finding))
    if as_json:
        click.echo(json.dumps(doctor.as_dict(findings), indent=2))
    elif doctor.is_fit(findings):
        click.echo("This machine can run make demo.")
    else:
        missing = ", ".join(finding.name for finding in findings if finding.status == "FAIL")
        click.echo(f"This machine lacks: {missing}.")
    ctx.exit(0 if doctor.is_fit(findings) else 1)
