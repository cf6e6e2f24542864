"""A table in formats to copy from: report.md, report.csv, report.tex, and what was published by epoch as epochs.*."""

from pathlib import Path

from retable import atomic
from retable.report.csv import csv_by_epoch, csv_text
from retable.report.evaluated import Evaluated
from retable.report.latex import latex_by_epoch, latex_table
from retable.report.markdown import report

REPORT, CSV, LATEX = "report.md", "report.csv", "report.tex"
EPOCHS_CSV, EPOCHS_LATEX = "epochs.csv", "epochs.tex"


def write_table(found: Evaluated, place: Path) -> Path:
    """Write a table's report.md, report.csv and report.tex into a folder; returns the first."""
    atomic.write_text(place / REPORT, report(found))
    atomic.write_text(place / CSV, csv_text(found))
    atomic.write_text(place / LATEX, latex_table(found))
    if found.by_epoch:
        atomic.write_text(place / EPOCHS_CSV, csv_by_epoch(found))
        atomic.write_text(place / EPOCHS_LATEX, latex_by_epoch(found))
    return place / REPORT
