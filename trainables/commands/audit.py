"""The command `studies/audit.py`: audit the stored networks of a finished study further."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from trainables.commands.arguments import STUDY_HELP, Parser, add_site_options, exit_with, site_of
from trainables.study.options import integer


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(
        description="Audit the stored networks of a finished study further; only shadow models are trained.", allow_abbrev=False
    )
    p.add_argument("study", metavar="STUDY", help=STUDY_HELP)
    p.add_argument("--shadows", type=integer(0), required=True, metavar="N", help="shadow models for each confirmed point")
    add_site_options(p, without=("workers_per_trial",))
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its exit code."""
    command = list(sys.argv if argv is None else ["studies/audit.py", *argv])
    exit_with(lambda: _main(parser().parse_args(argv), command))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables.revisions.audits import Audits
    from trainables.revisions.revise import revise

    return revise(args.study, Audits(args.shadows), site_of(args), command=command)
