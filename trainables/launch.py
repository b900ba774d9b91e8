"""From a plan to an exit code: check, sweep, confirm, publish."""

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from core import data, pareto, space, train
from core.config import Objective, Study, TrialConfig
from core.data import Images
from core.errors import InputError, redacted
from core.space import Switch
from trainables import preflight
from trainables.outcome import WHEN, Outcome
from trainables.plan import Plan, Site
from trainables.reconcile import TUNE, take_over
from trainables.results import Version, outcomes, pictures, versions
from trainables.store import Store
from trainables.terminal import Terminal
from trainables.trial import pack

Objectives = Callable[[int], tuple[Objective, ...]]
ROOT = Path(__file__).resolve().parent.parent


def start(plan: Plan, site: Site, *, command: list[str], objectives: Objectives) -> int:
    """A new study."""
    plan, images = _checked(plan, site, objectives)
    return _run(plan, site, images, command)


def _checked(plan: Plan, site: Site, objectives: Objectives) -> tuple[Plan, Images]:
    """The plan with its objectives, and the images, after all checks."""
    images = preflight.check(plan, site)
    plan = replace(plan, objectives=objectives(images.classes))
    preflight.check_required(plan, images)
    plan.check_rungs()
    return plan, images


def resume(study: Study, name: str, site: Site, *, changed: list[str], command: list[str]) -> int:
    """A study that an earlier driver left unfinished.

    Raises:
        InputError: there is none of that name, it belongs to another script, or its plan would change.
    """
    if changed:
        raise InputError(f"--resume goes on with the study as it was planned; drop {', '.join(changed)}")
    plan = stored_plan(name, site)
    if plan.study != study.name:
        raise InputError(f"{name} is a study of {plan.study}; resume it with python studies/{plan.study}.py")
    images = preflight.check(plan, site)
    return _run(plan, site, images, command)


def stored_plan(name: str, site: Site) -> Plan:
    """The plan of a study that was started before.

    Raises:
        InputError: there is none of that name, or its plan cannot be read.
    """
    store = Store.at(site.storage)
    known = [folder for folder in store.names("") if store.read(f"{folder}/plan.json") is not None]
    if name not in known:
        raise InputError(f"no study {name!r} in --storage {site.storage}, there is: {', '.join(known) or 'none'}")
    try:
        return Plan.of_json(store.read_json(f"{name}/plan.json"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{store.root}/{name}/plan.json is not a plan of this version ({type(error).__name__}: {error})") from None


def dry_run(plan: Plan, site: Site, *, objectives: Objectives) -> int:
    """Print what would be done and what it would cost."""
    plan, images = _checked(plan, site, objectives)
    say = Terminal(site.output).say
    say(plan.question)
    say("\nconfiguration")
    searched = space.names(plan.space)
    for name, value in plan.config.params().items():
        say(f"  {name} = {value}{'   (searched)' if name in searched else ''}")
    say("space")
    for name, span in plan.space.items():
        say(f"  {name} = {'one of' if isinstance(span, Switch) else space.text(span)}")
        for option, own in span.options.items() if isinstance(span, Switch) else ():
            say(f"    {option}")
            for knob, inner in own.items():
                say(f"      {knob} = {space.text(inner)}")
    say("baselines")
    for name, changes in plan.baselines.items():
        say(f"  {name}: {', '.join(f'{k}={v}' for k, v in changes.items())}")
    say("cost")
    for line in estimate(plan, images):
        say(f"  {line}")
    return 0


def estimate(plan: Plan, images: Images) -> list[str]:
    """The cost, from one measured epoch of the configuration on at most 1,024 members."""
    members = images.at(data.split(images, plan.config.split).members[:1024])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    config = plan.config.set({"epochs": 2})
    seen: list[float] = []
    train.train(config, members, members, device=device, on_epoch=lambda row, bound: seen.append(row["epoch/seconds"]))
    rate = len(members.y) / seen[-1]  # the first epoch pays for warming up
    count = len(data.split(images, plan.config.split).members)
    per_trial = plan.config.epochs * count / rate
    networks, seeds = plan.trials * plan.seeds, f" x {plan.seeds} seeds" if plan.seeds > 1 else ""
    hours = networks * per_trial / 3600
    epochs = plan.config.epochs
    lines = [
        f"{plan.trials} trials{seeds} x {epochs} epochs x {count} members = {networks * epochs * count:,} images",
        f"{rate:,.0f} images/s on one {device.type} as measured: {per_trial:.0f} s a network, {hours:.2f} device hours in all",
    ]
    params = plan.config.params()
    if switched := ", ".join(f"{name}={params[name]}" for name, span in plan.space.items() if isinstance(span, Switch)):
        lines.append(f"measured with {switched}; other fillings cost more or less")
    if count := plan.replicates + plan.shadows:
        shadows = f", {plan.shadows} of them shadow models" if plan.shadows else ""
        lines.append(f"confirm: {count} trainings per front point{shadows}, {count * per_trial / 3600:.3f} device hours each")
    return lines


def _run(plan: Plan, site: Site, images: Images, command: list[str]) -> int:
    from ray.exceptions import RayError
    from ray.tune import TuneError

    from trainables import cluster
    from trainables.progress import front_table
    from trainables.tracking import Tracker

    terminal = Terminal(site.output)
    later = [version for version in versions(Store.at(site.storage).below(plan.name)) if version.finished]
    with cluster.joined(site) as capacity:
        signal.signal(signal.SIGTERM, interrupt)  # a scheduler's polite end is Ctrl-C to us; Ray had set a handler, too
        try:
            found = take_over(Store.at(site.storage).below(plan.name), plan)
            store, known = found.store, _facts(plan, found.store, command)
        except OSError as error:
            code = _stopped(error, plan, site, terminal)
            terminal.tell({"name": plan.name, "exit_code": code, "error": _why(error)})
            return code
        if not found.anew:
            terminal.say(str(found))
        outcome = Outcome(
            name=plan.name, study=plan.study, question=plan.question, objectives=plan.objectives, space=plan.space,
            planned=plan.trials, facts=known, trials=found.ended, require=plan.require,
        )  # fmt: skip
        tracker = Tracker(site.tracking_uri, plan, outcome, home=store.root, claim=store.claim)
        if later:
            tracker.versions(outcomes(plan, store, outcome.facts, later)[1:])
        try:
            _sweep_and_confirm(plan, site, capacity, images, store, outcome, tracker, terminal)
            outcome = _publish(plan, outcome, store, tracker, later)
            undelivered = tracker.close()
        except (KeyboardInterrupt, OSError, RayError, TuneError) as error:
            code = _stopped(error, plan, site, terminal)
            tracker.close("KILLED")
            again = {"error": _why(error), "resume": resume_command(plan, site, sys.argv[0])}
            terminal.tell(ending(outcome, store, site, tracker.parent, code) | again)
            return code
        except InputError:  # of the searcher: it finds no legal configuration any more
            tracker.close("FAILED")
            raise
    if outcome.front():
        terminal.show(front_table(outcome))
    code = _farewell(outcome, store, site, terminal, undelivered, tracker.last_error)
    terminal.tell(ending(outcome, store, site, tracker.parent, code))
    return code


def ending(outcome: Outcome, store: Store, site: Site, run: str, code: int) -> dict[str, Any]:
    """How a study ended, for a program."""
    from trainables import report

    counts = {"planned": outcome.planned, "completed": len(outcome.done)}
    counts |= {"failed": len(outcome.failed), "stopped": len(outcome.stopped)}
    return {
        "name": outcome.name, "study": outcome.study, "exit_code": code, "version": outcome.version,
        "trials": counts,
        "hypervolume": outcome.hypervolume(), "front": report.front_rows(outcome), "confirmed": report.confirmed_rows(outcome),
        "folder": redacted(store.root), "tracking_uri": redacted(site.tracking_uri), "mlflow_run": run,
    }  # fmt: skip


def _stopped(error: BaseException, plan: Plan, site: Site, terminal: Terminal) -> int:
    """Say why a study stops and how to go on with it; the exit code."""
    terminal.trouble(f"{_why(error)}; continue with\n  {resume_command(plan, site, sys.argv[0])}")
    return 130 if isinstance(error, KeyboardInterrupt) else 3


def _why(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else redacted(f"error: {error}".splitlines()[0])


def _sweep_and_confirm(
    plan: Plan, site: Site, capacity, images: Images, store: Store, outcome: Outcome, tracker, terminal: Terminal
) -> None:
    """What is still to be trained."""
    from trainables import cluster, confirm, sweep
    from trainables.progress import Progress

    share = cluster.share_of(site, capacity)
    concurrency = cluster.concurrency(share, capacity, site.concurrency)
    arrays = pack(images)
    with Progress(outcome, terminal.console) as progress:
        progress.say(f"{plan.name}: {plan.trials} trials, {concurrency} at a time, results in {redacted(store.root)}")
        sweep.sweep(plan, outcome, arrays, store, share, cluster.Room(share, site), [tracker, progress])
        front = outcome.front()
        if plan.replicates and front:
            progress.say(f"front of {len(front)} trials; confirming each with {plan.replicates} fresh seeds on the test part")
            small = cluster.shadow_share(site, share)
            crew = confirm.Crew(Store.at(site.storage), small, cluster.Room(small, site))
            outcome.confirmed = confirm.confirm(plan, front, arrays, store, share, cluster.Room(share, site), progress.say, crew)
            tracker.confirmed()
    store.discard_folder(TUNE)


def _publish(plan: Plan, outcome: Outcome, store: Store, tracker, later: list[Version]) -> Outcome:
    """Write the front and the report into the store; those of the newest version where stored networks were looked at again.

    Returns:
        The study at that version.
    """
    from trainables import report

    if not later:
        outcome.pictures = pictures(store, outcome)
        store.write_all(report.files(outcome))
        return outcome
    newest = outcomes(plan, store, outcome.facts, later)[-1]  # a replicate that was lost may have a result now
    newest.tracked = outcome.tracked
    tracker.versions([newest])
    store.write_all(report.files(newest))
    return newest


def _farewell(outcome: Outcome, store: Store, site: Site, terminal: Terminal, undelivered: int, trouble: str) -> int:
    """The last lines, and the exit code."""
    from trainables.progress import flag_lines, where_lines

    say, wrong = terminal.say, terminal.trouble
    left = [str(point.number) for point in outcome.confirmed if not point.on_front]
    if outcome.confirmed:
        say(f"confirm: {len(outcome.confirmed) - len(left)} of {len(outcome.confirmed)} points stay on the front"
            + (f"; left it: {', '.join(left)}" if left else ""))  # fmt: skip
    points = {point.number for point in outcome.confirmed}
    new = {trial.number for trial in outcome.front()} - points if points else set()
    lost = set() if outcome.changes else new
    for point in outcome.confirmed:
        if point.failed:
            wrong(f"confirm: {point.failed} replicates of trial {point.number} failed")
    if lost:
        wrong(f"confirm: every replicate failed of trials {', '.join(map(str, sorted(lost)))}")
    elif new:
        say(f"confirm: not trained again, because new on the front: trials {', '.join(map(str, sorted(new)))}")
    if taken := sum(bool(trial.taken_from) for trial in outcome.trials):
        say(f"{taken} of {len(outcome.trials)} trials were taken over from earlier ones of the same content, not trained again")
    for line in (*flag_lines(outcome), *where_lines(store, site)):
        say(line)
    if undelivered:
        wrong(f"{undelivered} writes did not reach MLflow ({trouble}); when it is up again: --resume {outcome.name}")
    for trial in outcome.failed:
        wrong(f"trial {trial.number} failed: {trial.error}")
    if missing := outcome.planned - len(outcome.trials):
        wrong(f"{missing} trials were not run; go on with --resume {outcome.name}")
    if not outcome.front():
        wrong(_why_empty(outcome))
    bad = outcome.failed or undelivered or missing or lost or not outcome.front()
    return 1 if bad or any(point.failed for point in outcome.confirmed) else 0


def _why_empty(outcome: Outcome) -> str:
    """In words, with what to do."""
    able = replace(outcome, require=()).front()
    if not able:
        return "the front is empty: no trial is better than chance and free of barring flags; train longer"
    wanted = " and ".join(map(str, outcome.require))
    nearest = min(able, key=lambda trial: sum(pareto.lacks(trial.metrics, outcome.require)))
    has = ", ".join(f"{limit.metric} {nearest.metrics.get(limit.metric, float('nan')):.4f}" for limit in outcome.require)
    return f"the front is empty: no trial has {wanted}; the nearest is trial {nearest.number} with {has}; ask for less"


def interrupt(signum, frame) -> None:
    """A signal's handler: like Ctrl-C."""
    raise KeyboardInterrupt


def resume_command(plan: Plan, site: Site, script: str = "") -> str:
    """What to type to go on with a study; `script` is its own where that is known."""
    script = script if script.endswith(".py") else f"studies/{plan.study}.py"
    return command_line(script, ["--resume", plan.name], site)


def command_line(script: str, words: list[str], site: Site) -> str:
    """A script of ours with these words, and the switches that say where."""
    switches = {
        "address": "--address", "workers": "--workers-per-trial", "cpus": "--cpus-per-worker", "gpus": "--gpus-per-worker",
        "shadow_gpus": "--gpus-per-shadow",
        "concurrency": "--concurrency", "storage": "--storage", "tracking_uri": "--tracking-uri", "data_dir": "--data-dir",
    }  # fmt: skip
    changed = {switch: getattr(site, name) for name, switch in switches.items() if getattr(site, name) != getattr(Site(), name)}
    where = [word for switch, value in changed.items() for word in (switch, str(value))]
    return redacted(shlex.join([sys.executable, script, *words, *where]))


def _facts(plan: Plan, store: Store, command: list[str]) -> dict[str, str]:
    """The facts of the study's first driver, and how many have followed."""
    known = store.read_json("facts.json")
    now = facts(command)
    if known is None:
        usual = TrialConfig().params()
        settings = {name: value for name, value in plan.config.params().items() if usual.get(name) != value}
        known = now | {
            "settings": ", ".join(f"{name}={value}" for name, value in settings.items()),
            "search": ", ".join(
                [
                    f"{plan.trials} trials",
                    f"sampler {plan.sampler}",
                    f"seed {plan.seed}",
                    *([f"means over {plan.seeds} seeds"] if plan.seeds > 1 else []),
                    *([f"early stopping after epochs {', '.join(map(str, plan.rungs))}"] if plan.rungs else []),
                    *([f"required {' and '.join(map(str, plan.require))}"] if plan.require else []),
                ]
            ),
        }
    else:
        known["resumed"] = f"{known['resumed']}; " if "resumed" in known else ""
        known["resumed"] += f"{now['started']} at commit {now['commit']}"
    store.write_json("facts.json", known)
    return known


def facts(command: list[str]) -> dict[str, str]:
    """What a reader needs to do it again: command, commit, versions, hardware."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=5).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    dirty = " with local changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": redacted(shlex.join(["python", *command])),
        "commit": commit + dirty,
        "versions": ", ".join(f"{p} {version(p)}" for p in ("torch", "torchvision", "ray", "optuna", "mlflow")),
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else ""),
        "started": time.strftime(WHEN),
    }
