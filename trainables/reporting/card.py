"""Cards, the sections of the report: data, a check whether the section applies, and a template."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trainables.study.outcome import Outcome
from trainables.study.text import show

WEB = Path(__file__).parent / "web"
"""The frame of the page, its macros, style and script."""


@dataclass(frozen=True)
class Missing:
    """The reason why a section does not apply, and how to obtain it; the text may contain markup."""

    reason: str | Markup


@dataclass(frozen=True)
class Figure:
    """A PNG file with a description for readers who cannot see it."""

    png: bytes
    description: str
    wide: bool = False
    """Whether a narrow screen scrolls the figure instead of shrinking it, because its text would become too small."""
    photo: bool = False
    """Whether the figure contains images, whose colours a dark page must not invert."""


@dataclass(frozen=True)
class ReportContext:
    """The outcome and the figures that cards show."""

    outcome: Outcome
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Figures by file name."""

    def figures_of(self, *prefixes: str) -> list[Figure]:
        """The figures whose names start with one of the prefixes, in order."""
        return [figure for name, figure in self.figures.items() if name.startswith(prefixes)]


@dataclass(frozen=True)
class Card:
    """A section of the report."""

    anchor: str
    """Identifier of the section in links."""
    title: str
    data: Callable[[ReportContext], Mapping[str, Any] | Missing]
    """Function that returns the values for the template, or why the section does not apply."""
    template: str
    """Body of the section, a jinja2 template that can use the macros of macros.html."""
    link: str = ""
    """Text of the link in the table of contents; empty for no link."""

    def render(self, context: ReportContext) -> Markup:
        """Render the body of the section."""
        data = self.data(context)
        if isinstance(data, Missing):
            return Markup("<p>{}</p>").format(data.reason)
        return Markup(ENVIRONMENT.from_string(f'{{% import "macros.html" as m %}}{self.template}').render(**data))


def _environment() -> Environment:
    env = Environment(
        autoescape=True, loader=FileSystemLoader(WEB), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    env.globals["zip"] = zip
    env.filters |= {"show": show, "repr": repr, "base64": lambda data: base64.b64encode(data).decode()}
    return env


ENVIRONMENT = _environment()
"""The jinja2 environment of the report; every value is escaped unless it is `Markup`."""
