"""The table as a LaTeX tabular, to the character."""

import shutil
import subprocess

import pytest

from retable.report.evaluated import evaluate
from retable.report.latex import escape, latex_table
from retable.report.markdown import markdown_table
from retable.report.runs import Assigned

METRICS = {
    "train": {"column": "train/accuracy", "scale": 100, "unit": "%"},
    "val": {"column": "val/accuracy", "scale": 100, "unit": "%"},
}


def test_a_plain_table(make_table, make_run, assigned):
    table = make_table(metrics=METRICS)
    runs = assigned(make_run("a", [0.1, 0.5]), *(make_run("b", [0.1, v], s) for s, v in enumerate((0.6, 0.7))))
    assert (
        latex_table(evaluate(table, runs))
        == r"""% T1 A toy table: python train.py -m experiment=toy/table
% \usepackage{booktabs}
\begin{tabular}{lrr}
\toprule
 & train (\%) & val (\%) \\
\midrule
a & 60.00 (60) & 50.00 (50) \\
b & \textbf{75.00 $\pm$ 7.07} (80) & \textbf{65.00 $\pm$ 7.07} (60) \\
c & missing (60) & missing (40) \\
\bottomrule
NOTE
\end{tabular}
""".replace(
            "NOTE",
            r"\multicolumn{3}{@{}p{\linewidth}@{}}{\footnotesize Mean $\pm$ sample standard deviation over 1 to 2"
            r" seeds, published value in parentheses. Best in bold.} \\",
        )
    )


def test_the_command_that_made_the_table_stays_within_its_comment(make_table):
    found = evaluate(make_table(), Assigned({}), "retable report --from csv 'a\nb'")
    assert latex_table(found).splitlines()[0] == ("% T1 A toy table: retable report --from csv 'a b'")


@pytest.fixture
def pivoted(make_table):
    def make(metrics):
        cells = {
            "none": {"match": {"p": 0.0}, "published": {"val": 50}},
            **{f"{w} {p}": {"match": {"p": p, "where": w}} for p in (0.2, 0.3) for w in ("conv", "all_&")},
        }
        return make_table(
            cells=cells, metrics=metrics, rows=["p"], columns=["where"], labels={"p": {0.0: "none"}}, baseline="none"
        )

    return make


def test_groups_of_columns_as_published(pivoted, make_run):
    table = pivoted(METRICS)
    sample = {"data": {"source": "sample"}}
    runs = Assigned({**{name: [] for name in table.cells}, "none": [make_run("x", [0.1, 0.5], **sample)]})
    lines = latex_table(evaluate(table, runs)).splitlines()
    assert lines[2:14] == [
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{conv} & \multicolumn{2}{c}{all\_\&} \\",
        r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}",
        r"p & train (\%) & val (\%) & train (\%) & val (\%) \\",
        r"\midrule",
        r"none & 60.00 & 50.00 & 60.00 & 50.00 \\",
        r"0.2 & missing & missing & missing & missing \\",
        r"0.3 & missing & missing & missing & missing \\",
        r"\bottomrule",
        r"\multicolumn{5}{@{}p{\linewidth}@{}}{\footnotesize One seed.} \\",
        r"\multicolumn{5}{@{}p{\linewidth}@{}}{\footnotesize Made from sample data: nothing is compared with"
        r" published figures.} \\",
    ]


def test_one_metric_needs_one_line_of_heads(pivoted, make_run):
    lines = latex_table(evaluate(pivoted({"val": METRICS["val"]}), Assigned({}))).splitlines()
    assert lines[4:6] == [r"p & conv val (\%) & all\_\& val (\%) \\", r"\midrule"]


def test_every_special_character_is_escaped():
    assert escape(r"50 % & $1 #2 a_b {c} ~ ^ \ < > | [d] ± –") == (
        r"50 \% \& \$1 \#2 a\_b \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{}"
        r" \textbar{} {[}d] $\pm$ --"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_takes_it(pivoted, make_run, tmp_path):
    body = latex_table(evaluate(pivoted(METRICS), Assigned({})))
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_a_published_range_of_negative_values_keeps_both_signs(make_table, make_run, data):
    """-3--1 is set as -3 to 1."""
    data["cells"]["a"]["published"]["val"] = {"range": [-3, -1]}
    found = evaluate(make_table(), Assigned({"a": [make_run("a", [0.1, -0.02])], "b": [], "c": []}))
    assert "($-$3 to $-$1)" in latex_table(found)
    assert " / -3 to -1 / " in markdown_table(found)
