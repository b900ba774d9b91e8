"""The command `studies/rejudge.py`: attack the stored networks of a finished study further."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.attacks.suite import SUITES
from core.errors import unknown
from trainables.commands.arguments import STUDY_HELP, Parser, add_site_options, exit_with, site_of
from trainables.study.options import integer


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(description="Attack the stored networks of a finished study further; nothing is trained.", allow_abbrev=False)
    p.add_argument("study", metavar="STUDY", help=STUDY_HELP)
    p.add_argument("--suite", required=True, metavar="S", help=f"one of {', '.join(SUITES)}; strong is AutoAttack's effort")
    p.add_argument(
        "--transfer-from", type=integer(0), metavar="N", help="also attack all other networks with images made on trial N's network"
    )
    add_site_options(p, without=("workers_per_trial", "gpus_per_shadow"))
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its exit code."""
    command = list(sys.argv if argv is None else ["studies/rejudge.py", *argv])
    exit_with(lambda: _main(parser().parse_args(argv), command))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables.revisions.attacks import Attacks
    from trainables.revisions.revise import revise

    if args.suite not in SUITES:
        raise unknown("suite", args.suite, SUITES)
    return revise(args.study, Attacks(args.suite, args.transfer_from), site_of(args), command=command)
