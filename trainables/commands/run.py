"""Starting and resuming a study: check, sweep, confirm, publish."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.exceptions import RayError
from ray.tune import TuneError

from core import data
from core.data import Images
from core.errors import InputError
from core.redaction import redacted
from core.study import Study
from trainables.execution import cluster, session
from trainables.execution.confirm import announcement, confirm
from trainables.execution.sweep import sweep
from trainables.runs import preflight
from trainables.runs.publish import publish
from trainables.runs.study_run import StudyRun
from trainables.storage.results import pictures
from trainables.storage.takeover import TUNE_FOLDER, resume_state, stored_plan
from trainables.study.options import Option
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted
from trainables.terminal import signals
from trainables.terminal.closing import front_table, print_summary
from trainables.terminal.progress import Progress
from trainables.terminal.provenance import parts_fact, resumed_facts, study_facts
from trainables.tracking.tracker import Tracker


def start(plan: Plan, site: Site, *, objectives: preflight.Objectives, command: list[str]) -> int:
    """Start a new study; returns the exit code.

    Raises:
        InputError: the message says what to change; nothing was started.
    """
    run = StudyRun.open(plan, site, command)

    def work() -> int:
        checked, images = preflight.check_new(plan, site, objectives)
        return _run(replace(run, plan=checked), images)

    return run.interruptible(work)


def resume(study: Study, name: str, site: Site, *, requested: Sequence[tuple[Option, Any]], command: list[str]) -> int:
    """Resume a study that an earlier driver left unfinished; returns the exit code.

    Args:
        study: the study of the script.
        name: name of the study's run.
        site: where to run it.
        requested: options of the plan that were given, with their values; they must agree with the stored plan.
        command: the command that was typed, script first.

    Raises:
        InputError: the study does not exist, it belongs to another script, or an option would change its plan.
    """
    plan = stored_plan(name, site)
    if plan.study != study.name:
        raise InputError(f"{name} is a study of {plan.study}; resume it with python studies/{plan.study}.py")
    if changed := [option.flag for option, value in requested if not plan.was_requested(option, value)]:
        raise InputError(f"--resume continues the study as it was planned; drop {', '.join(changed)}")
    run = StudyRun.open(plan, site, command)
    return run.interruptible(lambda: _run(run, preflight.check(plan, site)))


def _run(run: StudyRun, images: Images) -> int:
    """Run the missing parts of a study, publish it, and return the exit code."""
    later, description = run.finished_versions(), data.description(images, run.plan.config.split)
    for line in description:
        run.terminal.info(f"data: {line}")
    for line in run.plan.left_out:
        run.terminal.info(f"--recipe {run.plan.recipe} leaves out {line}")
    with cluster.joined(run.site) as capacity:
        try:
            state = resume_state(run.store, run.plan)
            run = run.with_store(state.store)
            facts = _update_facts(run, images, description)
        except OSError as error:
            return run.stopped(error)
        if not state.is_new:
            run.terminal.info(str(state))
        for line in state.repaired:
            run.terminal.error(line)
        outcome = Outcome.of_plan(run.plan, facts, state.ended)
        tracker = Tracker(run.site.tracking_uri, run.plan, outcome, home=run.store.root, lease=run.store.lease)
        if later:
            tracker.revised(run.outcomes(later)[1:])
        try:
            _sweep_and_confirm(run, capacity, images, outcome, tracker)
            newest = outcome
            if later:  # replicates that were missing may have a result now
                newest = run.outcomes(later)[-1]
                tracker.revised([newest])
            else:
                outcome.pictures = pictures(run.store, outcome.front())
            publish(run.store, newest, tracker, later)
            undelivered = tracker.close()
        except (KeyboardInterrupt, OSError, RayError, TuneError) as error:
            if isinstance(error, (RayError, TuneError)) and (logs := session.keep_logs()):
                run.terminal.error(f"Ray's logs: {logs}")
            return run.stopped(error, lambda code: _killed(run, outcome, tracker, code))
        except BaseException:  # for example, the searcher finds no legal configuration any more
            signals.unless_skipped(lambda: tracker.close("FAILED"))
            raise
    if newest.front():
        run.terminal.show(front_table(newest))
    code = print_summary(newest, run.store.root, run.site, run.terminal, undelivered, tracker.last_error)
    return run.finished(newest, tracker.refs.parent, code)


def _killed(run: StudyRun, outcome: Outcome, tracker: Tracker, code: int) -> dict[str, Any]:
    """End the runs in MLflow as killed; returns the summary for programs."""
    if not signals.unless_skipped(lambda: tracker.close("KILLED")):
        run.terminal.error("did not wait for MLflow; what it lacks is logged when the study is resumed")
    return run.summary(outcome, tracker.refs.parent, code)


def _update_facts(run: StudyRun, images: Images, description: Sequence[str]) -> dict[str, str]:
    """Store and return the facts of the study, with this driver among them."""
    known = run.facts()
    facts = resumed_facts(known, run.command) if known else study_facts(run.plan, run.command)
    facts["data"] = "; ".join(description)
    facts["parts"] = parts_fact(run.plan.config.parts(images))
    run.store.write_json("facts.json", facts)
    return facts


def _sweep_and_confirm(run: StudyRun, capacity: Mapping[str, float], images: Images, outcome: Outcome, tracker: Tracker) -> None:
    """Train the trials and replicates that are missing."""
    plan, site, store = run.plan, run.site, run.store
    with Progress(outcome, run.terminal.console) as progress:
        executor = cluster.executor(site, capacity, images, store, progress.info, run.terminal.error)
        at_a_time = cluster.concurrency(executor.workspace.share, capacity, site.concurrency)
        progress.info(f"{plan.name}: {counted(plan.trials, 'trial')}, {at_a_time} at a time, results in {redacted(store.root)}")
        sweep(plan, outcome, executor, [tracker, progress])
        if plan.replicates and outcome.front():
            progress.info(announcement(plan, outcome))
            outcome.confirmation = confirm(plan, outcome, executor)
            if outcome.confirmation:
                tracker.confirmed()
    store.discard_folder(TUNE_FOLDER)
