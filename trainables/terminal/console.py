"""The output of a command: text, only errors with `--quiet`, or one JSON object with `--json`."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from trainables.study.site import Output
from trainables.study.tables import json_safe
from trainables.terminal import streams


class Terminal:
    """Prints the output of a command; with `--json`, text goes to standard error, and only the object to standard output."""

    def __init__(self, output: Output = "text"):
        self.output = output
        use_stderr = output != "text"
        plain = Console(highlight=False, soft_wrap=True, stderr=use_stderr)
        # Wide enough for whole tables where the output is not a terminal.
        wide = Console(highlight=False, soft_wrap=True, width=200, stderr=use_stderr)
        self._errors = plain if plain.is_terminal else wide
        self.console = Console(quiet=True) if output == "quiet" else self._errors
        """Console for information; silent with `--quiet`."""

    def info(self, text: str) -> None:
        """Print a line of information."""
        self.console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """Print a table."""
        self.console.print(table)

    def error(self, text: str) -> None:
        """Print an error, also with `--quiet`."""
        self._errors.print(text, markup=False)

    def print_json(self, summary: Mapping[str, Any]) -> bool:
        """With `--json`, print the object to standard output; numbers that are not finite become null.

        Returns:
            Whether nothing was lost.
        """
        if self.output == "json":
            print(json.dumps(json_safe(summary)), flush=True)
            return not streams.is_lost()
        return True
