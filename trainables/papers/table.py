"""The table of an item: means with intervals over seeds beside the paper's numbers, as Markdown, CSV and LaTeX."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.space import Value
from core.stats import mean_interval
from trainables.papers.item import Item, Results
from trainables.study.tables import csv

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "→": r"$\to$",
}  # fmt: skip
"""Characters that have a meaning in LaTeX, with what prints them."""


@dataclass(frozen=True)
class Entry:
    """One number of a table, with that of the paper."""

    mean: float
    half: float
    """Half-width of the 95 % interval of the mean over seeds (Student); infinite for one seed."""
    seeds: int
    paper: float | None

    def text(self, digits: int) -> str:
        """Mean, half-width if there is one, and the paper's number in parentheses."""
        own = f"{self.mean:,.{digits}f}"
        interval = f" ± {self.half:,.{digits}f}" if math.isfinite(self.half) else ""
        paper = "" if self.paper is None else f" ({self.paper:,.{digits}f})"
        return own + interval + paper


@dataclass(frozen=True)
class Table:
    """The numbers of an item, by row and heading."""

    headings: list[str]
    percent: Sequence[str]
    """Headings of columns in percent, which have one digit after the point."""
    entries: dict[str, dict[str, Entry]]

    @classmethod
    def of(cls, item: Item, results: Results) -> "Table":
        """The table of the results; a row lacks what none of its networks has, for example an audit that its split rules out."""
        entries: dict[str, dict[str, Entry]] = {}
        for row, networks in results.items():
            published = item.published.get(row, {})
            entries[row] = {}
            for heading, name in item.columns.items():
                scale = 100.0 if heading in item.percent else 1.0
                values = [scale * value for own in networks if isinstance(value := own.get(name), float | int)]
                if values:
                    mean, interval = mean_interval(values)
                    entries[row][heading] = Entry(mean, interval.high - mean, len(values), published.get(heading))
        return cls(list(item.columns), item.percent, entries)

    def markdown(self) -> str:
        """The table in Markdown."""
        return markdown(["", *self.headings], [[row, *self._cells(row)] for row in self.entries])

    def latex(self, caption: str) -> str:
        """The table in LaTeX, for the package booktabs."""
        return latex(["", *self.headings], [[row, *self._cells(row)] for row in self.entries], caption)

    def csv(self) -> str:
        """One line per number: row, heading, mean, ends of the interval, number of seeds, and the paper's number."""
        rows: list[dict[str, Value]] = []
        for row, own in self.entries.items():
            for heading, entry in own.items():
                line: dict[str, Value] = {"row": row, "column": heading, "mean": entry.mean}
                if math.isfinite(entry.half):
                    line |= {"low": entry.mean - entry.half, "high": entry.mean + entry.half}
                line |= {"seeds": entry.seeds} | ({"paper": entry.paper} if entry.paper is not None else {})
                rows.append(line)
        names = ("row", "column", "mean", "low", "high", "seeds", "paper")
        return csv([{name: line.get(name, "") for name in names} for line in rows])

    def _cells(self, row: str) -> list[str]:
        return [own.text(self._digits(h)) if (own := self.entries[row].get(h)) else "-" for h in self.headings]

    def _digits(self, heading: str) -> int:
        """Digits after the point in a column: fewer for larger numbers, so that the largest has three significant ones."""
        if heading in self.percent:
            return 1
        column: Mapping[str, Entry] = {row: own[heading] for row, own in self.entries.items() if heading in own}
        largest = max((abs(entry.mean) for entry in column.values()), default=0.0)
        whole = all(e.mean.is_integer() and (e.paper is None or float(e.paper).is_integer()) for e in column.values())
        return 0 if whole else max(0, 2 - max(-1, math.floor(math.log10(largest or 1.0))))


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts in Markdown."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (headings, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(headings), *lines[1:]]) + "\n"


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table of texts in LaTeX, for the package booktabs; columns after the first are aligned to the right."""
    heading, *body = [" & ".join(map(_latex, cells)) + r" \\" for cells in (headings, *rows)]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}", r"\toprule", heading, r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match.group()], text)
