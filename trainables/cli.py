"""The command line that every study shares: `main(STUDY)` is the last line of a study's file.

Exit codes: 0 all good; 1 some trials failed; 2 bad input, nothing started (or no legal configuration is found any more);
3 the driver could not go on (a full disk, a lost cluster) and can be resumed; 130 interrupted, likewise.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from core import data, space
from core.config import SLOTS, Limit, Study, TrialConfig, checked_space
from core.errors import InputError, redacted, unknown
from core.space import Range, Switch, Value
from trainables.plan import Plan, Site

SAMPLERS = ("tpe", "nsga2", "gp", "random")
FEW = 50
"""Trials for which the Gaussian process is worth its seconds per suggestion; see infra/scale.md."""
ALIKE = ("dataset", "pool", "split", "replicate", "shadow", "seed")
"""What cannot be searched, besides the judge: trials would not be comparable."""


def main(study: Study, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a study as the command line asks, and leave with its exit code."""
    leave(lambda: _main(study, parser(study).parse_args(argv), list(sys.argv if argv is None else ["study", *argv])))


def leave(work: Callable[[], int]) -> NoReturn:
    """Leave with the exit code of the work, after one line about input that cannot be used."""
    try:
        code = work()
    except InputError as error:
        print("error:", redacted(" ".join(str(error).splitlines())), file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _main(study: Study, args: argparse.Namespace, command: list[str]) -> int:
    from trainables import launch  # Ray and MLflow are worth loading only once the words are right

    site = site_of(args)
    if args.resume is not None:
        return launch.resume(study, args.resume, site, changed=_changed(study, args), command=command)
    plan = plan_of(study, args)
    if args.dry_run:
        return launch.dry_run(plan, site, objectives=study.objectives)
    return launch.start(plan, site, command=command, objectives=study.objectives)


class Parser(argparse.ArgumentParser):
    """One that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        raise InputError(message)  # one line, without the usage


def parser(study: Study) -> argparse.ArgumentParser:
    """The switches; the same for every study."""
    p = Parser(description=study.question, allow_abbrev=False)
    what = p.add_argument_group("what to study (fixed once the study has begun)")
    what.add_argument("--preset", default="dev", help=f"{' or '.join(study.presets)} (default: dev, minutes on 2 CPU cores)")
    what.add_argument("--trials", type=at_least(1), metavar="N", help="trials, baselines included")
    what.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="of everything random (default: 0)")
    what.add_argument(
        "--sampler", default="auto", metavar="NAME",
        help=f"{', '.join(SAMPLERS)} or auto, which is gp for up to {FEW} trials and tpe for more, or where slots are searched",
    )  # fmt: skip
    what.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE", help="fix a setting, e.g. net.width=32 epochs=50"
    )
    what.add_argument(
        "--space", action="extend", nargs="+", default=[], metavar="NAME=LOW:HIGH[:log]", help="search a knob over another range"
    )
    what.add_argument("--dataset", metavar="D", help=f"{', '.join(data.DATASETS)} or {data.PARQUET}DIR")
    what.add_argument("--no-confirm", action="store_true", help="do not re-train the front with fresh seeds")
    what.add_argument(
        "--require", action="append", default=[], metavar="LIMIT",
        help="keep what misses 'METRIC>=VALUE' or 'METRIC<=VALUE' (quoted) off the front, and search where it is met",
    )  # fmt: skip
    what.add_argument("--seeds-per-trial", type=at_least(1), default=1, metavar="N", help="judge means over N seeds (default: 1)")
    what.add_argument(
        "--early-stopping", type=at_least(1), nargs="*", metavar="EPOCH",
        help="give up what is dominated after these epochs (default: a third and two thirds of the training)",
    )  # fmt: skip
    what.add_argument("--shadows", type=at_least(0), metavar="N", help="also train N shadow models for each point, to audit it")
    add_where(p)
    p.add_argument("--resume", metavar="NAME", help="go on with a study that was interrupted")
    p.add_argument("--dry-run", action="store_true", help="print what would be done and what it would cost, and stop")
    return p


def add_where(p: argparse.ArgumentParser, workers: bool = True, shadows: bool = True) -> None:
    """The switches that say where; without those for trials over several workers, or for shadow models, if there are none."""
    where = p.add_argument_group("where to run it")
    where.add_argument("--data-dir", default="data", metavar="DIR", help="for downloaded data sets (default: data)")
    where.add_argument("--address", default="", metavar="ADDR", help="of a Ray cluster: auto or HOST:PORT, from its head node")
    if workers:
        where.add_argument(
            "--workers-per-trial", type=at_least(0), default=0, metavar="N", help="0 (default) trains in the trial's process"
        )
    where.add_argument(
        "--gpus-per-worker", type=_share, metavar="F", help="default: 1 if there are GPUs; 0.25 packs four trials on one"
    )
    if shadows:
        where.add_argument(
            "--gpus-per-shadow", type=_share, metavar="F", help="for a shadow model (default: as for a worker); 0.125 packs eight"
        )
    where.add_argument("--cpus-per-worker", type=_share, default=1.0, metavar="F", help="default: 1, which is fastest on CPUs")
    where.add_argument(
        "--concurrency", type=at_least(1), metavar="N", help="trials at a time (default: as many as fit; a cluster may grow)"
    )
    where.add_argument("--storage", default="runs", metavar="URI", help="folder or s3://, gs:// ... for results (default: runs)")
    where.add_argument(
        "--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="of MLflow (default: sqlite:///mlflow.db)"
    )
    said = p.add_mutually_exclusive_group()
    said.add_argument("--quiet", dest="output", action="store_const", const="quiet", help="say only what is wrong")
    said.add_argument(
        "--json", dest="output", action="store_const", const="json", help="end with one JSON object on standard output"
    )
    p.set_defaults(output="text", workers_per_trial=0, gpus_per_shadow=None)


def at_least(low: int) -> Callable[[str], int]:
    """Reads whole numbers from `low` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return read


def _share(text: str) -> float:
    try:
        value = space.number(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value < 0 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{value:g} is neither a fraction of one nor a whole number")
    return value


def site_of(args: argparse.Namespace) -> Site:
    """Where the switches say."""
    if args.cpus_per_worker == 0:
        raise InputError("argument --cpus-per-worker: 0 would start every trial at once; expected more than 0")
    return Site(
        address=args.address, workers=args.workers_per_trial, cpus=args.cpus_per_worker, gpus=args.gpus_per_worker,
        shadow_gpus=args.gpus_per_shadow,
        concurrency=args.concurrency or 0, storage=args.storage, tracking_uri=args.tracking_uri, data_dir=args.data_dir,
        output=args.output,
    )  # fmt: skip


def plan_of(study: Study, args: argparse.Namespace) -> Plan:
    """What the switches ask for, checked as far as that goes without the images.

    Raises:
        InputError: the first thing that is wrong.
    """
    if args.preset not in study.presets:
        raise unknown("preset", args.preset, study.presets)
    if args.sampler not in (*SAMPLERS, "auto"):
        raise unknown("sampler", args.sampler, [*SAMPLERS, "auto"])
    preset = study.presets[args.preset]
    fixed, asked = assignments(args.set, "--set"), assignments(args.space, "--space")
    _refuse_knobs_of_switches("--set", fixed, narrowed(study.space(preset.config), fixed))
    config, fixed = configured(preset.config, args.dataset, fixed)
    if "seed" in fixed:
        raise InputError("--set seed=... : use --seed, from which every trial gets its own")
    ranges = narrowed(study.space(config), fixed)
    _refuse_knobs_of_switches("--space", asked, ranges)
    ranges |= {name: _range(name, text, ranges.get(name)) for name, text in asked.items()}
    if alike := [name for name in ranges if name in ALIKE or name.startswith("judge.")]:
        raise InputError(f"--space {alike[0]}: all trials of a study have the same images, parts and judge")
    if both := sorted(ranges.keys() & fixed.keys()):
        raise InputError(f"{both[0]} is in both --set and --space; fix it or search it")
    if not ranges:
        raise InputError("nothing is left to search; drop a --set")
    ranges = checked_space(config, ranges)
    trials = args.trials or preset.trials
    if config.shadow:
        raise InputError("--set shadow=... : use --shadows, which trains shadow models for the points that are confirmed")
    if args.shadows and args.no_confirm:
        raise InputError("--shadows audits what confirm trains; drop --no-confirm")
    if config.judge.part != "val" and not args.no_confirm:
        raise InputError(f"judge.part={config.judge.part} would spend on the sweep what confirm needs unseen; add --no-confirm")
    return Plan(
        name=_name(study), study=study.name, question=study.question, config=config, space=ranges,
        objectives=(), baselines=_baselines(study, config), trials=trials,
        sampler=_sampler(args.sampler, trials, ranges), seed=args.seed, confirm=dict(preset.confirm),
        replicates=0 if args.no_confirm else preset.replicates,
        shadows=0 if args.no_confirm else preset.shadows if args.shadows is None else args.shadows,
        require=tuple(Limit.of(text) for text in args.require), seeds=args.seeds_per_trial,
        rungs=_rungs(args.early_stopping, config.epochs),
    )  # fmt: skip


def _sampler(asked: str, trials: int, ranges: Mapping[str, Range]) -> str:
    """The sampler of a study. The Gaussian process models only what all trials have."""
    switched = [name for name, span in ranges.items() if isinstance(span, Switch)]
    if asked == "auto":
        return "gp" if trials <= FEW and not switched else "tpe"
    if asked == "gp" and switched:
        able = ", ".join(name for name in SAMPLERS if name != "gp")
        raise InputError(f"--sampler gp cannot search which {switched[0]} a trial has; use {able}, or --set {switched[0]}=...")
    return asked


def _rungs(asked: Sequence[int] | None, epochs: int) -> tuple[int, ...]:
    """Epochs of --early-stopping: none without it, a third and two thirds of the training if it names none."""
    if asked is None:
        return ()
    return tuple(sorted(set(asked or (epochs // 3, 2 * epochs // 3))))


def configured(config: TrialConfig, dataset: str | None, fixed: Mapping[str, str]) -> tuple[TrialConfig, Mapping[str, str]]:
    """A configuration on another data set (judged at its usual radius) and with settings fixed."""
    if dataset is not None:
        if dataset.startswith(data.PARQUET):
            from pathlib import Path

            dataset = data.PARQUET + str(Path(dataset.removeprefix(data.PARQUET)).expanduser().absolute())
        elif dataset not in data.DATASETS:
            raise unknown("dataset", dataset, [*data.DATASETS, f"{data.PARQUET}DIR"])
        if dataset != config.dataset:
            config = config.set({"dataset": dataset, "judge.epsilon": data.usual_epsilon(dataset)})
    if "dataset" in fixed:
        raise InputError("--set dataset=... : use --dataset")
    return config.set(fixed), fixed


def narrowed(ranges: Mapping[str, Range], fixed: Mapping[str, str]) -> dict[str, Range]:
    """The ranges of what is not fixed; of a slot that is fixed, the knobs of that option are ranges like all others."""
    left: dict[str, Range] = {}
    for name, span in ranges.items():
        own = span.options.get(fixed[name], {}) if isinstance(span, Switch) and name in fixed else {name: span}
        left |= {knob: s for knob, s in own.items() if knob not in fixed}
    return left


def _refuse_knobs_of_switches(flag: str, named: Mapping[str, str], ranges: Mapping[str, Range]) -> None:
    """A knob of a slot whose filling is searched exists in some trials only, unless the space has it for all of them."""
    for name in named:
        slot, dot, knob = name.partition(".")
        switch = ranges.get(slot)
        if dot and isinstance(switch, Switch) and name not in ranges:
            owners = [option for option in switch.options if knob in space.of(SLOTS[slot][option])]
            has = f"only {slot}={' or '.join(owners)} has" if owners else f"none of {', '.join(switch.options)} has"
            fix = f"; to do this, add --set {slot}={owners[0]}" if owners else ""
            raise InputError(f"{flag} {name}: it is searched which {slot} a trial has, and {has} such a knob{fix}")


def _baselines(study: Study, config: TrialConfig) -> dict[str, dict[str, Value]]:
    """The study's baselines at this configuration's threat model."""
    adapted = {}
    for name, changes in study.baselines.items():
        changes = dict(changes)
        if "perturbation.epsilon" in changes:
            changes["perturbation.epsilon"] = config.judge.epsilon
        config.set(changes)
        adapted[name] = changes
    return adapted


def assignments(pairs: Sequence[str], switch: str) -> dict[str, str]:
    """NAME=VALUE pairs as a dictionary.

    Raises:
        InputError: no equals sign, or a name twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{switch} takes NAME=VALUE, got {pair!r}")
        if name in found:
            raise InputError(f"{switch} names {name} twice")
        found[name] = value
    return found


def _range(name: str, text: str, before: Range | None) -> Range:
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


def _name(study: Study) -> str:
    import datetime
    import secrets

    return f"{study.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _changed(study: Study, args: argparse.Namespace) -> list[str]:
    """The what-switches that were given; a resumed study goes on as it was planned."""
    defaults = parser(study).parse_args([])
    names = ("preset", "trials", "seed", "sampler", "set", "space", "dataset", "no_confirm", "shadows", "dry_run")
    names += ("require", "seeds_per_trial", "early_stopping")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) != getattr(defaults, name)]
