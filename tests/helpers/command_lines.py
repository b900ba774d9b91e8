"""Parsing command lines of studies without running them."""

import argparse
from dataclasses import replace

from digits import HARD_DIGITS

from core.study import Study
from studies.crl_tradeoff import STUDY
from trainables.commands import arguments
from trainables.commands.study import parser, plan_of
from trainables.study.plan import Plan
from trainables.study.site import Site


def parse(*argv: str, study: Study = STUDY) -> argparse.Namespace:
    """The parsed options of a study's command."""
    return parser(study).parse_args(argv)


def plan(*argv: str, study: Study = STUDY) -> Plan:
    """The plan that a study's command line describes, with the hard digits as its images."""
    return replace(plan_of(study, parse(*argv, study=study)), data=HARD_DIGITS)


def site(*argv: str) -> Site:
    """The site that a study's command line describes."""
    return arguments.site_of(parse(*argv))
