"""Adding a version to the front of a finished study, from its stored networks."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ray.exceptions import RayError

from core.data import Images
from core.errors import InputError
from trainables.execution import cluster, session
from trainables.revisions.reevaluation import Reevaluation, missing, reevaluate
from trainables.runs import preflight
from trainables.runs.publish import Delivered, publish_revision
from trainables.runs.study_run import EXIT_PARTIAL, StudyRun
from trainables.storage.networks import StoredNetwork, stored_networks
from trainables.storage.results import REPLACE, ended_trials, evidence
from trainables.storage.study_images import study_images
from trainables.storage.takeover import is_finished, stored_plan
from trainables.storage.versions import Version, versions, write_version
from trainables.study.outcome import TIMESTAMP_FORMAT, Outcome
from trainables.study.results import AuditResult, merged
from trainables.study.site import Site
from trainables.study.text import counted, decimal, plural
from trainables.terminal.closing import flag_lines, front_table, location_lines, revision_lines, undelivered_line
from trainables.terminal.provenance import command_line, facts, resume_command
from trainables.tracking.artifacts import check_artifacts
from trainables.tracking.client import check_tracking, front_version


@dataclass(frozen=True)
class Revision:
    """A version of a front that is being made."""

    run: StudyRun
    reevaluation: Reevaluation
    base: list[Version]
    """The finished versions before it."""
    version: Version

    def missing(self, networks: Sequence[StoredNetwork]) -> list[StoredNetwork]:
        """The networks that are still to be re-evaluated."""
        return missing(self.run.store, self.version, networks)


def revise(name: str, reevaluation: Reevaluation, site: Site, *, command: list[str]) -> int:
    """Re-evaluate every network of a finished study, and publish the new version of its front.

    Args:
        name: name of the study's run, as `--resume` takes it.
        reevaluation: the re-evaluation.
        site: where it runs.
        command: the command that was typed, script first.

    Returns:
        An exit code; see `trainables.commands.study`.

    Raises:
        InputError: the message says what to change; nothing was started.
    """
    plan = stored_plan(name, site)
    script, words = reevaluation.command
    run = StudyRun.open(plan, site, command, resume=command_line(script, [name, *words], site))
    return run.interruptible(lambda: _revise(run, reevaluation))


def _revise(run: StudyRun, reevaluation: Reevaluation) -> int:
    """Make the new version of a study, or continue the last one; see `revise`."""
    plan, site, name = run.plan, run.site, run.plan.name
    _check_finished(run)
    check_tracking(site.tracking_uri, plan.study)
    check_artifacts(site.tracking_uri, plan.study, run.store.above)
    later = versions(run.store)
    last = later[-1] if later else None
    if last and last.settings == reevaluation.settings:
        base, version = later[:-1], last
        if last.finished and not missing(run.store, last, stored_networks(plan, run.store, base)):
            return _nothing_new(run, later, last.number)
    elif last and not last.finished:
        raise InputError(
            f"version {last.number} of {name}, {last.how}, is not finished; continue with `{last.facts['command']}`, "
            f"or drop it by deleting {run.store.root}/{last.folder}"
        )
    elif covered := reevaluation.covered(plan, later):
        return _nothing_new(run, later, covered)
    else:
        base, version = later, Version(last.number + 1 if last else 2, reevaluation.settings, reevaluation.how, facts(run.command))
    revision = Revision(run, reevaluation, base, version)
    networks = stored_networks(plan, run.store, base)
    images = _check(revision, networks)
    return _run(revision, networks, images)


def _check_finished(run: StudyRun) -> None:
    """Raise an error, with the command that finishes it, if the study has not ended."""
    plan, ended = run.plan, ended_trials(run.store)
    if len(ended) < plan.trials or not is_finished(run.store):
        raise InputError(
            f"{plan.name} is not finished, {len(ended)} of its {counted(plan.trials, 'trial')} "
            f"{plural(len(ended), 'has', 'have')} ended; finish it with `{resume_command(plan, run.site)}`"
        )


def _check(revision: Revision, networks: Sequence[StoredNetwork]) -> Images:
    """Check that the re-evaluation can run.

    Returns:
        The images; they are loaded last, so that nothing is downloaded for what is refused.

    Raises:
        InputError: the message says what to change.
    """
    plan, site, store = revision.run.plan, revision.run.site, revision.run.store
    if not networks:
        raise InputError(f"every trial of {plan.name} failed, so there is no network to re-evaluate")
    revision.reevaluation.check(networks)
    preflight.check_hardware(site)
    preflight.check_address(site.address)
    store.check_writable()
    for network in networks:
        if absent := {"network.pt", "predictions.npz"} - set(store.names(network.folder)):
            above = f" and in {network.folder.partition('/seeds/')[0]}" if "/seeds/" in network.folder else ""
            raise InputError(
                f"{network.name} of {plan.name} has no {' and no '.join(sorted(absent))} in {store.root}/{network.folder}; delete "
                f"result.json there{above} and train it again with `{resume_command(plan, site)}`"
            )
    for network in networks if revision.missing(networks) else ():
        store.read_state(f"{network.folder}/network.pt", REPLACE)
        evidence(store, network.folder, [version.folder for version in revision.base])
    return study_images(plan, site)


def _run(revision: Revision, networks: Sequence[StoredNetwork], images: Images) -> int:
    """Re-evaluate the missing networks and publish the version; returns the exit code."""
    run, version = revision.run, revision.version
    remaining = revision.missing(networks)
    try:
        if remaining:
            done = len(networks) - len(remaining)
            already = f", {done} of them done before" if done else ""
            stored = counted(len(networks), "stored network")
            description = f"version {version.number}, {stored} {revision.reevaluation.how}"
            run.terminal.info(f"{run.plan.name}: {description}{already}")
            _reevaluate_all(revision, networks, remaining, images)
        results = [run.store.read(f"{version.folder}/{network.folder}/result.json") for network in networks]
        if lost := results.count(None):
            return run.stopped(f"{lost} of {counted(len(networks), 'network')} {plural(lost, 'has', 'have')} no result")
        return _finish(revision)
    except (KeyboardInterrupt, OSError, RayError) as error:
        return run.stopped(error)


def _reevaluate_all(
    revision: Revision, networks: Sequence[StoredNetwork], remaining: Sequence[StoredNetwork], images: Images
) -> None:  # fmt: skip
    """Run one task for each remaining network, and print those that failed or changed, and at the end how many did not change."""
    run, shown, done = revision.run, revision.reevaluation.shown_metric, itertools.count(1)
    by_name, unchanged = {network.name: network for network in remaining}, []

    def ended(name: str, result: AuditResult) -> None:
        count, change = f"[{next(done)}/{len(remaining)}]", change_text(shown, by_name[name].metrics, result.metrics)
        if result.error:
            run.terminal.info(f"{count} {name} failed: {result.error}")
        elif change:
            run.terminal.info(f"{count} {name}  {change}")
        else:
            unchanged.append(name)

    with cluster.joined(run.site) as capacity:
        if not revision.version.finished:
            write_version(run.store, revision.version)
        executor = cluster.executor(run.site, capacity, images, run.store, run.terminal.info, run.terminal.error)
        reevaluation = revision.reevaluation.prepare(run.plan, revision.base, networks, executor)
        common = {"reevaluation": reevaluation, "later": revision.base, "target": revision.version.folder}
        try:
            executor.map(reevaluate, {n.name: {"network": n, **common} for n in remaining}, AuditResult, ended)
        except RayError:
            if logs := session.keep_logs():
                run.terminal.error(f"Ray's logs: {logs}")
            raise
    if unchanged:
        run.terminal.info(f"{shown} unchanged: {len(unchanged)} of {counted(len(remaining), 'network')}")


def change_text(metric: str, before: Mapping[str, float], update: Mapping[str, float]) -> str:
    """The change of a metric by a re-evaluation, with three decimals; empty if that does not change it."""
    texts = [decimal(own[metric]) for own in (before, merged(before, update)) if metric in own]
    return f"{metric} {' -> '.join(texts)}" if len(set(texts)) == 2 or (texts and metric not in before) else ""


def _finish(revision: Revision) -> int:
    """Publish the version, print what it did to the front, and return the exit code."""
    run = revision.run
    version = replace(revision.version, finished=time.strftime(TIMESTAMP_FORMAT))
    later = [*revision.base, version]
    outcomes = run.outcomes(later)
    delivered = publish_revision(run, outcomes, later)
    newest = outcomes[-1]
    run.terminal.show(front_table(newest))
    for line in (*revision_lines(newest), *flag_lines(newest), *location_lines(run.store.root, run.site, newest)):
        run.terminal.info(line)
    failed_before = {trial.number for trial in outcomes[-2].failed}
    failed = [trial for trial in newest.failed if trial.number not in failed_before]
    errors = [f"trial {trial.number} failed {trial.error}; to try again: {run.resume}" for trial in failed]
    errors += _undelivered(delivered, run)
    errors += [] if newest.front() else ["the front is empty: no trial remains on it after this re-evaluation"]
    return _end(run, newest, delivered, errors)


def _nothing_new(run: StudyRun, later: Sequence[Version], number: int) -> int:
    """Print which version has the results already; publish it again if MLflow lacks it."""
    how = next((f"was made {v.how}, {v.finished}" for v in later if v.number == number), "had the same from the start")
    run.terminal.info(f"nothing to do: version {number} of the front of {run.plan.name} {how}")
    delivered, outcomes = Delivered(0, "", ""), run.outcomes(later)
    try:
        if later and front_version(run.site.tracking_uri, run.plan) < later[-1].number:
            delivered = publish_revision(run, outcomes, later)
    except (KeyboardInterrupt, OSError) as error:
        return run.stopped(error)
    for line in location_lines(run.store.root, run.site, outcomes[-1]):
        run.terminal.info(line)
    return _end(run, outcomes[-1], delivered, _undelivered(delivered, run))


def _undelivered(delivered: Delivered, run: StudyRun) -> list[str]:
    if not delivered.undelivered:
        return []
    return [undelivered_line(delivered.undelivered, delivered.last_error, run.resume)]


def _end(run: StudyRun, outcome: Outcome, delivered: Delivered, errors: Sequence[str]) -> int:
    """Print the errors and the summary for programs; returns the exit code."""
    for line in errors:
        run.terminal.error(line)
    code = EXIT_PARTIAL if errors else 0
    return run.finished(outcome, delivered.mlflow_run, code)
