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

import torch
from rich.console import Console

from core import data, space, train
from core.config import Objective, Study, TrialConfig
from core.data import Images
from core.errors import InputError, redacted
from core.space import Switch
from trainables import preflight
from trainables.outcome import WHEN, Outcome
from trainables.plan import Plan, Site
from trainables.results import Version, ended_trials, outcomes, pictures, versions
from trainables.store import Store
from trainables.trial import pack

Objectives = Callable[[int], tuple[Objective, ...]]
ROOT = Path(__file__).resolve().parent.parent


def start(plan: Plan, site: Site, *, command: list[str], objectives: Objectives) -> int:
    """A new study."""
    images = preflight.check(plan, site)
    plan = replace(plan, objectives=objectives(images.classes))
    return _run(plan, site, images, command)


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
    images = preflight.check(plan, site)
    plan = replace(plan, objectives=objectives(images.classes))
    console = Console(highlight=False, soft_wrap=True)
    say = lambda text: console.print(text, markup=False)  # noqa: E731
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
    train.train(config, members, members, device=device, on_epoch=lambda row, state: seen.append(row["epoch/seconds"]))
    rate = len(members.y) / seen[-1]  # the first epoch pays for warming up
    count = len(data.split(images, plan.config.split).members)
    per_trial = plan.config.epochs * count / rate
    hours = plan.trials * per_trial / 3600
    epochs = plan.config.epochs
    lines = [
        f"{plan.trials} trials x {epochs} epochs x {count} members = {plan.trials * epochs * count:,} images",
        f"{rate:,.0f} images/s on one {device.type} as measured: {per_trial:.0f} s a trial, {hours:.2f} device hours in all",
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
    from trainables.progress import front_table, terminal
    from trainables.tracking import Tracker

    console = terminal()
    later = [version for version in versions(Store.at(site.storage).below(plan.name)) if version.finished]
    with cluster.joined(site) as capacity:
        signal.signal(signal.SIGTERM, interrupt)  # a scheduler's polite end is Ctrl-C to us; Ray had set a handler, too
        store = Store.at(site.storage).below(plan.name)
        if store.read("plan.json") is None:
            store.write_json("plan.json", plan.to_json())
        outcome = Outcome(
            name=plan.name, study=plan.study, question=plan.question, objectives=plan.objectives, space=plan.space,
            planned=plan.trials, facts=_facts(plan, store, command), trials=ended_trials(store),
        )  # fmt: skip
        tracker = Tracker(site.tracking_uri, plan, outcome, home=store.root)
        if later:
            tracker.versions(outcomes(plan, store, outcome.facts, later)[1:])
        try:
            _sweep_and_confirm(plan, site, capacity, images, store, outcome, tracker, console)
            outcome = _publish(plan, outcome, store, tracker, later)
            undelivered = tracker.close()
        except (KeyboardInterrupt, OSError, RayError, TuneError) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else redacted(f"error: {error}".splitlines()[0])
            console.print(f"{why}; continue with\n  {resume_command(plan, site, sys.argv[0])}", markup=False)
            tracker.close("KILLED")
            return 130 if isinstance(error, KeyboardInterrupt) else 3
        except InputError:  # of the searcher: it finds no legal configuration any more
            tracker.close("FAILED")
            raise
    if outcome.front():
        console.print(front_table(outcome))
    return _farewell(outcome, store, site, console, undelivered, tracker.last_error)


def _sweep_and_confirm(plan: Plan, site: Site, capacity, images: Images, store: Store, outcome: Outcome, tracker, console) -> None:
    """What is still to be trained."""
    from trainables import cluster, confirm, sweep
    from trainables.progress import Progress

    share = cluster.share_of(site, capacity)
    concurrency = cluster.concurrency(share, capacity, site.concurrency)
    arrays = pack(images)
    with Progress(outcome, console) as progress:
        progress.say(f"{plan.name}: {plan.trials} trials, {concurrency} at a time, results in {redacted(store.root)}")
        sweep.sweep(plan, outcome, arrays, store, share, concurrency, [tracker, progress])
        front = outcome.front()
        if plan.replicates and front:
            progress.say(f"front of {len(front)} trials; confirming each with {plan.replicates} fresh seeds on the test part")
            small = cluster.shadow_share(site, share)
            crew = confirm.Crew(Store.at(site.storage), small, cluster.concurrency(small, capacity, site.concurrency))
            outcome.confirmed = confirm.confirm(plan, front, arrays, store, share, concurrency, progress.say, crew)
            tracker.confirmed()


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


def _farewell(outcome: Outcome, store: Store, site: Site, console: Console, undelivered: int, trouble: str) -> int:
    """The last lines, and the exit code."""
    from trainables.progress import flag_lines, where_lines

    say = lambda text: console.print(text, markup=False)  # noqa: E731
    left = [str(point.number) for point in outcome.confirmed if not point.on_front]
    if outcome.confirmed:
        say(f"confirm: {len(outcome.confirmed) - len(left)} of {len(outcome.confirmed)} points stay on the front"
            + (f"; left it: {', '.join(left)}" if left else ""))  # fmt: skip
    points = {point.number for point in outcome.confirmed}
    new = {trial.number for trial in outcome.front()} - points if points else set()
    lost = set() if outcome.changes else new
    for point in outcome.confirmed:
        if point.failed:
            say(f"confirm: {point.failed} replicates of trial {point.number} failed")
    if lost:
        say(f"confirm: every replicate failed of trials {', '.join(map(str, sorted(lost)))}")
    elif new:
        say(f"confirm: not trained again, because new on the front: trials {', '.join(map(str, sorted(new)))}")
    if taken := sum(bool(trial.taken_from) for trial in outcome.trials):
        say(f"{taken} of {len(outcome.trials)} trials were taken over from earlier ones of the same content, not trained again")
    for line in (*flag_lines(outcome), *where_lines(store, site)):
        say(line)
    if undelivered:
        say(f"{undelivered} writes did not reach MLflow ({trouble}); when it is up again: --resume {outcome.name}")
    for trial in outcome.failed:
        say(f"trial {trial.number} failed: {trial.error}")
    if missing := outcome.planned - len(outcome.trials):
        say(f"{missing} trials were not run; go on with --resume {outcome.name}")
    if not outcome.front():
        say("the front is empty: no trial is better than chance; train longer")
    wrong = outcome.failed or undelivered or missing or lost or not outcome.front()
    return 1 if wrong or any(point.failed for point in outcome.confirmed) else 0


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
            "search": f"{plan.trials} trials, sampler {plan.sampler}, seed {plan.seed}",
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
