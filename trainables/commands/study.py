"""The command of every study: `main(STUDY)` is the last line of a study's script.

Exit codes:

* 0: everything succeeded.
* 1: some trials failed, or something is missing.
* 2: the input is invalid and nothing was started, or no legal configuration is left.
* 3: the driver could not continue (a full disk, a lost cluster); the study can be resumed.
* 130: a signal interrupted the driver (Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGUSR1, SIGUSR2 or SIGALRM); the study can be
  resumed.

Lost output does not change the exit code, except that of a `--json` object that could not be written: then 1 instead of 0.
"""

import argparse
import datetime
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from core import data, space
from core.config import SLOTS, TrialConfig
from core.errors import InputError, unknown
from core.knobs import knobs_of
from core.search_space import checked_space
from core.space import Range, Switch, Value
from core.study import Constraint, Study
from trainables.commands.arguments import Parser, add_site_options, assignments, exit_with, site_of
from trainables.commands.recipe import RecipeInStudy, illegal_with, layered, recipe_named
from trainables.search.samplers import GP_MAX_TRIALS, SAMPLERS, choose_sampler
from trainables.study.options import add_options, given_options, integer, options_of, with_defaults
from trainables.study.plan import Plan
from trainables.study.text import listed

NOT_SEARCHABLE = ("dataset", "pool", "split", "replicate", "shadow", "seed", "selection", "selection.images")
"""Settings that cannot be searched, besides those of split and judge, because trials would not be comparable."""


def main(study: Study, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a study with the options of a command line, and exit with its exit code."""
    exit_with(lambda: _main(study, parser(study).parse_args(argv), list(sys.argv if argv is None else ["study", *argv])))


def _main(study: Study, args: argparse.Namespace, command: list[str]) -> int:
    from trainables.commands import run  # loads Ray and MLflow, which is worth it only for a valid command line
    from trainables.commands.dry_run import dry_run

    site = site_of(args)
    if args.resume is not None:
        if args.dry_run is not None:
            raise InputError("--resume continues a study as planned; drop --dry-run")
        return run.resume(study, args.resume, site, requested=given_options(Plan, args), command=command)
    plan = plan_of(study, args)
    if args.dry_run is not None:
        return dry_run(plan, site, objectives=study.objectives, seconds=args.dry_run)
    return run.start(plan, site, objectives=study.objectives, command=command)


def parser(study: Study) -> argparse.ArgumentParser:
    """The parser of a study's command; its options are those of `Plan` and `Site`."""
    p = Parser(description=study.question, allow_abbrev=False)
    group = p.add_argument_group("what to study (fixed once the study has started)")
    texts = {"presets": listed(list(study.presets), "or"), "samplers": ", ".join(SAMPLERS), "gp_max_trials": GP_MAX_TRIALS}
    for declared in options_of(Plan).values():
        add_options(group, declared, texts)
    add_site_options(p)
    p.add_argument("--resume", metavar="NAME", help="resume a study that was interrupted")
    p.add_argument(
        "--dry-run", type=integer(1), nargs="?", const=0, metavar="SECONDS",
        help="print what would be done and what it would cost, and stop; SECONDS: time for measuring, if less than a minute is not "
        "enough",
    )  # fmt: skip
    return p


def plan_of(study: Study, args: argparse.Namespace) -> Plan:
    """The plan that the options describe, checked as far as possible without the images.

    Raises:
        InputError: the message names the first error.
    """
    given, args = given_options(Plan, args), with_defaults(Plan, args)
    if args.preset not in study.presets:
        raise unknown("preset", args.preset, study.presets)
    preset, recipe = study.presets[args.preset], recipe_named(args.recipe)
    fixed, replaced = assignments(args.set, "--set"), assignments(args.space, "--space")
    _check_switched_knobs("--set", fixed, narrowed(study.space(preset.config), layered(recipe, fixed)))
    try:
        config = configured(preset.config, args.dataset, layered(recipe, fixed))
    except InputError as error:
        raise (illegal_with(args.recipe, error, preset.config, fixed) if recipe else error) from None
    if "seed" in fixed:
        raise InputError("--set seed=... : use --seed, from which every trial gets its own seed")
    if config.shadow:
        raise InputError("--set shadow=... : use --shadows, which trains shadow models for the points that are confirmed")
    if args.shadows and args.no_confirm:
        raise InputError("--shadows audits the networks of the confirmation step; drop --no-confirm")
    if args.replicates and args.no_confirm:
        raise InputError("--replicates is about the confirmation step; drop --no-confirm")
    if config.judge.part != "val" and not args.no_confirm:
        raise InputError(
            f"judge.part={config.judge.part} would use data in the sweep that the confirmation step needs unseen; add --no-confirm"
        )
    adapted = RecipeInStudy(args.recipe, recipe, preset.config, config) if recipe else None
    ranges, lost_ranges = _space(study, config, fixed, replaced, adapted)
    baselines, lost_baselines = _baselines(study, config, adapted)
    contrasts, lost_contrasts = adapted.contrasts(study.contrasts, baselines, ranges) if adapted else (study.contrasts, [])
    trials = args.trials or preset.trials
    resolved: dict[str, Any] = {
        "name": _run_name(study), "study": study.name, "question": study.question, "config": config, "space": ranges,
        "objectives": (), "baselines": baselines, "trials": trials, "left_out": (*lost_ranges, *lost_baselines, *lost_contrasts),
        "sampler": choose_sampler(args.sampler, trials, ranges), "confirm": dict(preset.confirm),
        "replicates": 0 if args.no_confirm else args.replicates or preset.replicates, "contrasts": contrasts,
        "shadows": 0 if args.no_confirm else preset.shadows if args.shadows is None else args.shadows,
        "require": tuple(Constraint.of(text) for text in args.require), "rungs": _rungs(args.early_stopping, config.epochs),
        "requested": {o.name: value for o, value in given if value != o.default},
    }  # fmt: skip
    # Every other field has the value of its option.
    others = {name: getattr(args, declared[0].name) for name, declared in options_of(Plan).items() if name not in resolved}
    return Plan(**resolved, **others)


def _space(
    study: Study, config: TrialConfig, fixed: Mapping[str, str], replaced: Mapping[str, str], recipe: RecipeInStudy | None
) -> tuple[dict[str, Range], list[str]]:
    """The search space of a study with some settings fixed and some ranges replaced, and lines on what a recipe takes from it."""
    slots = {slot: str(recipe.settings[slot]) for slot in SLOTS if slot in recipe.settings} if recipe else {}
    declared, lines = narrowed(study.space(config), {**slots, **fixed}), []
    ranges = declared
    if recipe:
        ranges, lines = recipe.ranges(declared)
        if decided := sorted(slots.keys() & replaced.keys()):
            raise InputError(f"{decided[0]} is set by --recipe {recipe.name} and searched by --space; drop one of them")
    _check_switched_knobs("--space", replaced, ranges)
    ranges |= {name: _parsed_range(name, text, ranges.get(name)) for name, text in replaced.items()}
    if illegal := [name for name in ranges if name in NOT_SEARCHABLE or name.startswith(("split.", "judge."))]:
        raise InputError(f"--space {illegal[0]}: all trials of a study have the same images, split and judge settings")
    if both := sorted(ranges.keys() & fixed.keys()):
        raise InputError(f"{both[0]} is in both --set and --space; fix it or search it")
    if not ranges:
        raise recipe.nothing_to_search(declared) if recipe and declared else InputError("nothing is left to search; drop a --set")
    return checked_space(config, ranges), lines


def _rungs(requested: Sequence[int] | None, epochs: int) -> tuple[int, ...]:
    """The rungs of --early-stopping: none without it, and a third and two thirds of the epochs if it names none."""
    if requested is None:
        return ()
    return tuple(sorted(set(requested or (epochs // 3, 2 * epochs // 3))))


def configured(config: TrialConfig, dataset: str | None, fixed: Mapping[str, Value]) -> TrialConfig:
    """A configuration with some settings fixed, and on another data set if one is given, with its customary radius.

    If the norm of the threat model is fixed, training has the same one unless its own is fixed too.

    Raises:
        InputError: a setting or the data set is not legal.
    """
    if dataset is not None:
        dataset = dataset_name(dataset)
        if dataset != config.dataset:
            config = config.set({"dataset": dataset, "judge.epsilon": data.default_epsilon(dataset)})
    if "dataset" in fixed:
        raise InputError("--set dataset=... : use --dataset")
    if "judge.norm" in fixed and _trains_in_norms(config, fixed):
        fixed = {**fixed, "perturbation.norm": fixed.get("perturbation.norm", fixed["judge.norm"])}
    return config.set(fixed)


def dataset_name(text: str) -> str:
    """The name of a data set that a user typed, with an absolute path if it is a folder.

    Raises:
        InputError: there is no such data set.
    """
    if text.startswith(data.PARQUET):
        return data.PARQUET + str(Path(text.removeprefix(data.PARQUET)).expanduser().absolute())
    if text not in data.DATASETS:
        raise unknown("dataset", text, [*data.DATASETS, f"{data.PARQUET}DIR"])
    return text


def _trains_in_norms(config: TrialConfig, changes: Mapping[str, Value]) -> bool:
    """Whether the perturbation of a changed configuration has a norm."""
    return "norm" in knobs_of(SLOTS["perturbation"].get(str(changes.get("perturbation")), type(config.perturbation)))


def narrowed(ranges: Mapping[str, Range], fixed: Mapping[str, Value]) -> dict[str, Range]:
    """The ranges of the settings that are not fixed; the knobs of a switched slot that is fixed become ordinary ranges."""
    remaining: dict[str, Range] = {}
    for name, span in ranges.items():
        own = span.options.get(str(fixed[name]), {}) if isinstance(span, Switch) and name in fixed else {name: span}
        remaining |= {knob: s for knob, s in own.items() if knob not in fixed}
    return remaining


def _check_switched_knobs(flag: str, named: Mapping[str, str], ranges: Mapping[str, Range]) -> None:
    """Reject knobs of switched slots, which exist in some trials only, unless the space has them for all trials."""
    for name in named:
        slot, dot, knob = name.partition(".")
        switch = ranges.get(slot)
        if dot and isinstance(switch, Switch) and name not in ranges:
            owners = [option for option in switch.options if knob in knobs_of(SLOTS[slot][option])]
            has = f"only {slot}={' or '.join(owners)} has" if owners else f"none of {', '.join(switch.options)} has"
            fix = f"; to do this, add --set {slot}={owners[0]}" if owners else ""
            raise InputError(f"{flag} {name}: the {slot} of a trial is searched, and {has} such a knob{fix}")


def _baselines(study: Study, config: TrialConfig, recipe: RecipeInStudy | None) -> tuple[dict[str, dict[str, Value]], list[str]]:
    """The study's baselines at this configuration's threat model, and lines on those that a recipe does not allow."""
    adapted = {}
    for name, changes in study.baselines.items():
        changes = dict(changes)
        if "perturbation.epsilon" in changes:
            changes["perturbation.epsilon"] = config.judge.epsilon
            if config.judge.norm == "l2" and _trains_in_norms(config, changes):
                changes.setdefault("perturbation.norm", "l2")
        adapted[name] = changes
    if recipe:
        return recipe.baselines(adapted)
    for changes in adapted.values():
        config.set(changes)
    return adapted, []


def _parsed_range(name: str, text: str, before: Range | None) -> Range:
    """The range of a --space assignment; for a switch, the assignment selects options."""
    try:
        span = space.parse_range(text)
    except InputError as error:
        raise InputError(f"--space {name}: {error}") from None
    if not isinstance(before, Switch):
        return span
    for option in space.ends(span):
        if option not in before.options:
            raise unknown(f"option of --space {name}", option, before.options)
    return Switch({option: own for option, own in before.options.items() if space.contains(span, option)})


def _run_name(study: Study) -> str:
    return f"{study.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
