"""Where the words of a study go: a terminal or a log, with `--quiet` only what is wrong, with `--json` one object for a program."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Output = Literal["text", "quiet", "json"]


class Terminal:
    """With `json`, standard output has the object and nothing else; words go to standard error."""

    def __init__(self, output: Output = "text"):
        self.output = output
        aside = output != "text"
        plain = Console(highlight=False, soft_wrap=True, stderr=aside)
        # As wide as need be where it is not a terminal, so that a log holds whole tables.
        loud = plain if plain.is_terminal else Console(highlight=False, soft_wrap=True, width=200, stderr=aside)
        self._loud = loud
        self.console = Console(quiet=True) if output == "quiet" else loud
        """For news: silent with `--quiet`."""

    def say(self, text: str) -> None:
        """A line of news."""
        self.console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    def trouble(self, text: str) -> None:
        """A line about what is wrong, never silent."""
        self._loud.print(text, markup=False)

    def tell(self, facts: Mapping[str, Any]) -> None:
        """With `--json`, how it ended; numbers that are not finite become null."""
        if self.output == "json":
            print(json.dumps(finite(facts)), flush=True)


def finite(value: Any) -> Any:
    """Plain data for JSON: numbers that are not finite become null."""
    match value:
        case Mapping():
            return {str(name): finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value
