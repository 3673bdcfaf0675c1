# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one self-contained HTML file, to be looked at rather than read.

    write_report(Path("runs/digits"))        # runs/digits/report.html

    load.py        what a run left: summary, manifests, build records, trials; what is missing says why
    statistics.py  shares of faults with their intervals, by stratum, by memory and for the whole design
    figures.py     inline SVG and numbers as text
    heatmap.py headline.py tables.py   the page's parts, ready to print
    safety.py      rates of upsets in parameter memories     comparison.py  several runs on one page
    live.py        campaigns while they run, and the page as it is now
    sensitivity.py sensitivity_figures.py   the page of a sensitivity flow, and its figures as files
    rates.py graph.py scatter.py       accuracy under bit error rates; the layers, and where protection sits; curves
    export.py plots.py                 tables as CSV, figures as SVG and PNG, for papers
    page.html page.css page.js         how they look; nothing is loaded from anywhere

A part that a run did not measure says so, and why: it is never shown as 0.
"""

from bitward.report.comparison import write_comparison
from bitward.report.export import export_run
from bitward.report.page import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "export_run", "write_comparison", "write_report"]
