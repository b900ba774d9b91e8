"""The command `studies/pick.py`: choose a point of a finished study and register its model in MLflow."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.errors import InputError
from core.study import Constraint
from trainables.commands.arguments import STUDY_HELP, Parser, add_site_options, exit_with, site_of
from trainables.decisions.choice import Pick, pick
from trainables.study.choosing import Preference
from trainables.study.plan import Plan
from trainables.study.text import named
from trainables.study.tracking_uri import shown


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    p = Parser(description="Choose a point of a finished study and register its model in MLflow.", allow_abbrev=False)
    p.add_argument("study", metavar="STUDY", help=STUDY_HELP)
    require = "constraint that the point must meet, quoted: 'METRIC>=VALUE' or 'METRIC<=VALUE'"
    p.add_argument("--require", action="append", default=[], metavar="CONSTRAINT", help=require)
    best = p.add_mutually_exclusive_group(required=True)
    best.add_argument("--minimize", metavar="METRIC", help="among the points that meet the constraints, choose the lowest value")
    best.add_argument("--maximize", metavar="METRIC", help="or the highest value")
    best.add_argument("--balanced", action="store_true", help="or the compromise nearest to the best value of every objective")
    p.add_argument("--unconfirmed", action="store_true", help="choose from the front of the sweep, by its own numbers")
    p.add_argument("--name", metavar="MODEL", help="name of the registered model (default: the study's, without the date)")
    p.add_argument("--no-register", action="store_true", help="only print the choice")
    add_site_options(p, only=("data_dir", "storage", "tracking_uri"))
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its exit code."""
    exit_with(lambda: _main(parser().parse_args(argv), list(sys.argv if argv is None else ["studies/pick.py", *argv])))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables.decisions.register import register
    from trainables.runs.study_run import StudyRun
    from trainables.storage.networks import stored_networks
    from trainables.storage.study_images import study_images
    from trainables.storage.takeover import is_finished, stored_plan
    from trainables.terminal.provenance import facts
    from trainables.tracking.artifacts import check_artifacts, check_models
    from trainables.tracking.registry import checked_name, child_run

    if "" in (args.minimize, args.maximize):
        raise InputError("--minimize and --maximize take the name of a metric")
    preference = Preference(args.minimize or args.maximize or "", maximize=args.maximize is not None)
    constraints = [Constraint.of(text) for text in args.require]
    site = site_of(args)
    plan = stored_plan(args.study, site)
    name = checked_name(plan.study if args.name is None else args.name)
    run = StudyRun.open(plan, site, [])
    if not is_finished(run.store):
        raise InputError(f"{plan.name} is not finished; finish it with `{run.resume}`")
    later = run.finished_versions()
    outcome = run.outcomes(later)[-1]
    networks, revisions = stored_networks(plan, run.store, later), [version.folder for version in later]
    picked = pick(plan.name, outcome, networks, run.store, revisions, constraints, preference, args.unconfirmed)
    try:
        mlflow_run = child_run(plan, picked.trial.number, site.tracking_uri)
        if not args.no_register:
            check_artifacts(site.tracking_uri, plan.study, run.store.above)
            check_models(site.tracking_uri, run.store.above)
    except InputError:
        if not args.no_register:
            raise
        mlflow_run = ""
    images = None if args.no_register else study_images(plan, site)
    print(*choice_lines(picked, plan, mlflow_run), sep="\n")
    if images is None:
        return 0
    uri, is_new = register(picked, outcome, plan, images, run.store, site, mlflow_run, name, facts(command))
    unchanged = "" if is_new else " (already registered; nothing was changed)"
    print(f"registered model: {uri}{unchanged}")
    print(f"  in {shown(site.tracking_uri)}")
    print(f"  mlflow.pyfunc.load_model({uri!r})")
    return 0


def choice_lines(picked: Pick, plan: Plan, mlflow_run: str) -> list[str]:
    """The choice as lines for the terminal."""
    return [
        f"chosen: {named(picked.trial)} of {plan.name}, {picked.request}",
        picked.candidates,
        f"MLflow run: {mlflow_run or 'unknown'}",
        *(f"  {picked.value_text(metric)}" for metric in picked.chosen.values),
        f"network: {picked.which}",
        *([f"certainty: {picked.certainty}"] if picked.confirmed else []),
        *(f"runner-up: {text}" for text in picked.runners_up),
        *(f"caveat: {caveat}" for caveat in picked.caveats),
    ]
