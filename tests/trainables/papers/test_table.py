"""The table of an item as text, CSV and LaTeX, against values computed by hand."""

import csv
import io
import math

import pytest
from tiny_paper import item

from trainables.papers.table import Table

RESULTS = {
    "cross-entropy": [{"accuracy": accuracy, "mia_auc": 0.625} for accuracy in (0.5, 0.75, 0.25)],
    "label smoothing": [{"accuracy": 0.5}],
}  # fmt: skip
HALF = 4.30265272974946 * 25 / math.sqrt(3)
"""Student's quantile with two degrees of freedom times the standard error of 50, 75 and 25."""


def test_a_cell_has_the_mean_the_half_width_and_the_papers_number():
    entries = Table.of(item(), RESULTS).entries
    cell = entries["cross-entropy"]["accuracy"]
    assert (cell.mean, cell.seeds, cell.paper) == (50.0, 3, 76.5) and cell.half == pytest.approx(HALF)
    assert cell.text(1) == "50.0 ± 62.1 (76.5)"


def test_equal_values_and_a_single_seed_have_no_interval():
    entries = Table.of(item(), RESULTS).entries
    assert entries["cross-entropy"]["AUC"].text(3) == "0.625" and entries["label smoothing"]["accuracy"].text(1) == "50.0"


def test_markdown_has_a_dash_where_no_network_has_the_number():
    lines = Table.of(item(), RESULTS).markdown().splitlines()
    assert lines[0] == "|  | accuracy | AUC |"
    assert lines[2:] == ["| cross-entropy | 50.0 ± 62.1 (76.5) | 0.625 |", "| label smoothing | 50.0 | - |"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.1234, 0.5], ["0.123", "0.500"]), ([12.345, 3.2], ["12.3", "3.2"]), ([12345.6, 1.0], ["12,346", "1"]),
        ([240058, 12], ["240,058", "12"]),
    ],
)  # fmt: skip
def test_the_largest_number_of_a_column_has_three_significant_digits(values, texts):
    results = {f"row {i}": [{"mia_auc": value}] for i, value in enumerate(values)}
    table = Table.of(item(published={}), results)
    assert [line.split(" | ")[2].rstrip(" |") for line in table.markdown().splitlines()[2:]] == texts


def test_csv_has_one_line_per_number_that_reads_back_exactly():
    rows = list(csv.DictReader(io.StringIO(Table.of(item(), RESULTS).csv())))
    assert [(r["row"], r["column"], r["seeds"]) for r in rows] == [
        ("cross-entropy", "accuracy", "3"), ("cross-entropy", "AUC", "3"), ("label smoothing", "accuracy", "1"),
    ]  # fmt: skip
    assert [float(rows[0][end]) for end in ("low", "high")] == pytest.approx([50 - HALF, 50 + HALF]) and rows[0]["paper"] == "76.5"
    assert rows[1]["low"] == rows[1]["paper"] == ""


def test_latex_escapes_what_has_a_meaning_there():
    results = {r"50 % & 10_000 {#} \x ~^ $": [{"accuracy": 0.5}]}
    text = Table.of(item(), results).latex("A_1")
    row = r"50 \% \& 10\_000 \{\#\} \textbackslash{}x \textasciitilde{}\textasciicircum{} \$ & 50.0 & - \\"
    assert row in text and r"\caption{A\_1}" in text and r"\begin{tabular}{lrr}" in text
