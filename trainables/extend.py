"""Adding to a finished study from its stored networks: its front gets another version. `trainables/results.py` says what is in
which file, `trainables/look.py` what can be added."""

import itertools
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core import data
from core.data import Images
from core.errors import InputError, redacted
from trainables import launch, preflight, results
from trainables.confirm import Crew
from trainables.look import Extension, Network, lacking, look_at, stored_networks
from trainables.outcome import WHEN, Outcome
from trainables.plan import Plan, Site
from trainables.results import Version
from trainables.store import Store
from trainables.terminal import Terminal
from trainables.trial import pack


@dataclass(frozen=True)
class Task:
    """A version of a front that is being made."""

    plan: Plan
    site: Site
    store: Store
    """The study's folder."""
    extension: Extension
    base: list[Version]
    """The versions that it starts from, all finished."""
    version: Version

    @property
    def again(self) -> str:
        """What to type to go on with it."""
        script, words = self.extension.command
        return launch.command_line(script, [self.plan.name, *words], self.site)


def extend(name: str, extension: Extension, site: Site, *, command: list[str]) -> int:
    """Look at every network of a finished study, and publish what became of its front.

    Args:
        name: of the study's execution, as --resume takes it. extension: what to look for. site: where.
        command: that was typed, for the record.

    Returns:
        An exit code, as those in `trainables.cli`.

    Raises:
        InputError: with what to change; nothing was started.
    """
    plan = launch.stored_plan(name, site)
    store = Store.at(site.storage).below(name)
    later = results.versions(store)
    _check_finished(plan, site, store)
    preflight.check_tracking(site.tracking_uri, plan.study)
    last = later[-1] if later else None
    if last and last.settings == extension.settings:
        base, version = later[:-1], last
        if last.finished and not lacking(store, last, stored_networks(plan, store, base)):
            return _nothing_new(plan, site, store, later, last.number)
    elif last and not last.finished:
        raise InputError(
            f"version {last.number} of {name}, {last.how}, is not finished; go on with `{last.facts['command']}`, "
            f"or drop it by deleting {store.root}/{last.folder}"
        )
    elif covered := extension.covered(plan, later):
        return _nothing_new(plan, site, store, later, covered)
    else:
        base, version = later, Version(last.number + 1 if last else 2, extension.settings, extension.how, launch.facts(command))
    task = Task(plan, site, store, extension, base, version)
    networks = stored_networks(plan, store, base)
    images = _check(task, networks)
    return _run(task, networks, images)


def _check_finished(plan: Plan, site: Site, store: Store) -> None:
    """Refuse a study that has not ended.

    Raises:
        InputError: with how to go on with it.
    """
    ended = results.ended_trials(store)
    if len(ended) < plan.trials or "report.html" not in store.names(""):
        raise InputError(
            f"{plan.name} is not finished, {len(ended)} of its {plan.trials} trials have ended; "
            f"finish it with `{launch.resume_command(plan, site)}`"
        )


def _check(task: Task, networks: list[Network]) -> Images:
    """Refuse what cannot work here.

    Returns:
        The images; they come last, so that nothing is downloaded for what is refused.

    Raises:
        InputError: with what to change.
    """
    plan, site, store = task.plan, task.site, task.store
    if not networks:
        raise InputError(f"every trial of {plan.name} failed, so there is no network to look at")
    task.extension.check(networks)
    preflight.check_hardware(site)
    preflight.check_address(site.address)
    store.check_writable()
    for network in networks:
        if missing := {"network.pt", "predictions.npz"} - set(store.names(network.folder)):
            above = f" and in {network.folder.partition('/seeds/')[0]}" if "/seeds/" in network.folder else ""
            raise InputError(
                f"{network.name} of {plan.name} has no {' and no '.join(sorted(missing))} in {store.root}/{network.folder}; delete "
                f"result.json there{above} and train it again with `{launch.resume_command(plan, site)}`"
            )
    known = results.evidence(store, networks[0].folder, ())
    images = data.load(plan.config.dataset, site.data_dir, plan.config.pool)
    if known["rows"].max() >= len(images.y) or not np.array_equal(images.y.numpy()[known["rows"]], known["labels"]):
        raise InputError(f"{plan.config.dataset} now holds other images than when {plan.name} was judged; is --data-dir right?")
    return images


def _run(task: Task, networks: list[Network], images: Images) -> int:
    from ray.exceptions import RayError

    terminal = Terminal(task.site.output)
    say, wrong = terminal.say, terminal.trouble
    left = lacking(task.store, task.version, networks)
    try:
        if left:
            already = f", {len(networks) - len(left)} of them done before" if len(left) < len(networks) else ""
            say(f"{task.plan.name}: version {task.version.number}, {len(networks)} stored networks {task.extension.how}{already}")
            _look_at_all(task, networks, left, images, say)
        lost = [n for n in networks if task.store.read(f"{task.version.folder}/{n.folder}/result.json") is None]
        if lost:
            wrong(f"{len(lost)} of {len(networks)} networks have no result; continue with\n  {task.again}")
            terminal.tell({"name": task.plan.name, "exit_code": 3, "error": "networks without a result", "resume": task.again})
            return 3
        return _finish(task, terminal)
    except (KeyboardInterrupt, OSError, RayError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else redacted(f"error: {error}".splitlines()[0])
        wrong(f"{why}; continue with\n  {task.again}")
        code = 130 if isinstance(error, KeyboardInterrupt) else 3
        terminal.tell({"name": task.plan.name, "exit_code": code, "error": why, "resume": task.again})
        return code


def _look_at_all(task: Task, networks: list[Network], left: list[Network], images: Images, say: Callable[[str], None]) -> None:
    from trainables import cluster
    from trainables.tasks import spread

    count, shown, by_name = itertools.count(1), task.extension.shows, {network.name: network for network in left}

    def ended(name: str, result: Mapping[str, Any]) -> None:
        values = (metrics.get(shown, float("nan")) for metrics in (by_name[name].metrics, result["metrics"]))
        moved = f"{shown} {' -> '.join(f'{value:.3f}' for value in values)}"
        say(f"[{next(count)}/{len(left)}] {name} " + (f"failed: {result['error']}" if result["error"] else f" {moved}"))

    with cluster.joined(task.site) as capacity:
        signal.signal(signal.SIGTERM, launch.interrupt)
        share = cluster.share_of(task.site, capacity)
        if not task.version.finished:
            results.write_version(task.store, task.version)
        arrays, small = pack(images), cluster.shadow_share(task.site, share)
        crew = Crew(task.store.above, small, cluster.Room(small, task.site))
        extension = task.extension.prepare(task.plan, task.base, networks, arrays, crew, say)
        same = {"extension": extension, "store": task.store, "later": task.base, "target": task.version.folder, "share": share}
        calls = {network.name: {"network": network, **same} for network in left}
        spread(look_at, calls, arrays, share, cluster.Room(share, task.site), ended)


def _finish(task: Task, terminal: Terminal) -> int:
    """Publish the version in the store and in MLflow, and say what became of the front."""
    from trainables import report
    from trainables.progress import change_lines, flag_lines, front_table, where_lines
    from trainables.tracking import tracked

    plan, store = task.plan, task.store
    version = replace(task.version, finished=time.strftime(WHEN))
    found = results.outcomes(plan, store, store.read_json("facts.json") or {}, [*task.base, version])
    newest = found[-1]
    newest.tracked = tracked(task.site.tracking_uri, plan)
    files = report.files(newest)
    if not task.base:
        _keep_first(store)
    store.below(version.folder).write_all(files)
    store.write_all(files)
    results.write_version(store, version)
    undelivered, trouble, run = _deliver(plan, task.site, store, found)
    terminal.show(front_table(newest))
    before = {trial.number for trial in found[-2].failed}
    failed = [trial for trial in newest.failed if trial.number not in before]
    for line in (*change_lines(newest), *flag_lines(newest), *where_lines(store, task.site)):
        terminal.say(line)
    lines = [f"trial {trial.number} failed {trial.error}; to try again: {task.again}" for trial in failed]
    lines += [f"{undelivered} writes did not reach MLflow ({trouble}); when it is up again: {task.again}"] if undelivered else []
    lines += [] if newest.front() else ["the front is empty: no trial stands up to this"]
    for line in lines:
        terminal.trouble(line)
    code = 1 if failed or undelivered or not newest.front() else 0
    terminal.tell(launch.ending(newest, store, task.site, run, code))
    return code


def _keep_first(store: Store) -> None:
    """What people read of a study as it ended, beside the versions that will take its place; report.html comes last."""
    if "report.html" in store.names("versions/1"):
        return
    pictures = [f"plots/{name}" for name in store.names("plots")]
    for name in ("front.csv", "confirmed.csv", *pictures, "report.html"):
        if (content := store.read(name)) is not None:
            store.write(f"versions/1/{name}", content)


def _deliver(plan: Plan, site: Site, store: Store, found: list[Outcome]) -> tuple[int, str, str]:
    """Bring MLflow up to the newest version.

    Returns:
        How many writes did not reach it, why, and the study's run.
    """
    from trainables.tracking import Tracker

    tracker = Tracker(site.tracking_uri, plan, found[0], home=store.root)
    if found[0].confirmed:
        tracker.confirmed()
    tracker.versions(found[1:])
    return tracker.close(), tracker.last_error, tracker.parent


def _nothing_new(plan: Plan, site: Site, store: Store, later: list[Version], number: int) -> int:
    """Say which version has it; only a tracking server that has missed a version is told."""
    from trainables.progress import where_lines
    from trainables.tracking import front_version

    terminal = Terminal(site.output)
    how = next((f"was made {v.how}, {v.finished}" for v in later if v.number == number), "had the same from the start")
    terminal.say(f"nothing to do: version {number} of the front of {plan.name} {how}")
    undelivered, trouble, run = 0, "", ""
    found = results.outcomes(plan, store, store.read_json("facts.json") or {}, later)
    if later and front_version(site.tracking_uri, plan) < later[-1].number:
        undelivered, trouble, run = _deliver(plan, site, store, found)
    for line in where_lines(store, site):
        terminal.say(line)
    if undelivered:
        terminal.trouble(f"{undelivered} writes did not reach MLflow ({trouble})")
    terminal.tell(launch.ending(found[-1], store, site, run, 1 if undelivered else 0))
    return 1 if undelivered else 0
