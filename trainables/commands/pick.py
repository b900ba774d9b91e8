"""The command `studies/pick.py`: choose a point of a finished study and register its model in MLflow."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.errors import InputError
from core.study import Constraint
from trainables.commands.arguments import STUDY_HELP, Parser, add_site_options, exit_with, site_of
from trainables.decisions.choice import Pick, Preference, candidates, choose
from trainables.study.plan import Plan
from trainables.study.text import interval_text, named
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

    metric = args.minimize if args.maximize is None else args.maximize
    preference = Preference(tuple(Constraint.of(text) for text in args.require), metric, maximize=args.maximize is not None)
    site = site_of(args)
    plan = stored_plan(args.study, site)
    name = checked_name(plan.study if args.name is None else args.name)
    run = StudyRun.open(plan, site, [])
    if not is_finished(run.store):
        raise InputError(f"{plan.name} is not finished; finish it with `{run.resume}`")
    later = run.finished_versions()
    outcome = run.outcomes(later)[-1]
    among = candidates(plan.name, outcome, stored_networks(plan, run.store, later), args.unconfirmed)
    picked = choose(among, preference, plan.objectives, confirmed=not args.unconfirmed)
    try:
        mlflow_run = child_run(plan, picked.candidate.trial.number, site.tracking_uri)
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
    kind = "confirmed points on the front" if picked.confirmed else "points on the front of the sweep, by its own numbers"
    feasible = f", of which {picked.feasible} meet the constraints" if picked.preference.constraints else ""
    lines = [
        f"chosen: {named(picked.candidate.trial)} of {plan.name}, {picked.preference}",
        f"among {picked.among} {kind}{feasible}",
        f"MLflow run: {mlflow_run or 'unknown'}",
    ]
    metrics = [o.metric for o in plan.objectives] + [c.metric for c in picked.preference.constraints] + [picked.preference.metric]
    for metric in dict.fromkeys(metrics):
        mean, interval = picked.candidate.estimate(metric)
        own = picked.network.metrics[metric]
        lines.append(f"  {metric} {mean:.4f} (95 % interval {interval_text(interval)}; this network {own:.4f})")
    lines.append(f"network: {picked.which} by {plan.objectives[0].metric}")
    return [*lines, *(f"caveat: {caveat}" for caveat in picked.caveats)]
