"""Recovery of the runs that an earlier driver left in MLflow, so that nothing is logged twice and nothing is missing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.study.trial_state import TrialState
from trainables.tracking.client import DUPLICATE_OF, ENDED, NUMBER, RUN_STATUS, completeness_key, study_runs, trial_runs

PARENT = "mlflow.parentRunId"
"""Tag by which MLflow shows a run below another one."""


@dataclass
class ChildRun:
    """The state of a trial's run in MLflow, as far as this driver knows it."""

    run_id: str = ""
    """Empty until the run is created or found."""
    logged_epochs: set[int] = field(default_factory=set)
    """Epochs of the curve that are in MLflow already."""
    on_front: bool = False
    """Value of the run's `pareto` tag."""
    complete: bool = False
    """Whether the result of the trial is in MLflow, too."""
    uncertain: bool = False
    """Whether there may be a run that this driver does not know, because an attempt to create it was cut off."""
    is_new: bool = False
    """Whether this driver created the run and has logged no result yet, so that its contents are known."""
    interrupted: bool = False
    """Whether MLflow shows the trial as interrupted."""


def recover_children(client: Any, experiment: str, parent: str, name: str, ended: Collection[int]) -> dict[int, ChildRun]:
    """The runs of trials that an earlier driver logged, by number.

    Runs of trials that have not ended are marked as interrupted until they continue. Runs whose parent was deleted are moved below
    the study's new run.

    Args:
        client: MLflow client.
        experiment: experiment ID.
        parent: run ID of the study.
        name: name of the study's run.
        ended: numbers of trials that have ended.
    """
    by_number: dict[int, list] = {}
    for run in trial_runs(client, experiment, name):
        by_number.setdefault(int(run.data.tags[NUMBER]), []).append(run)
    children = {}
    for number, runs in by_number.items():
        run = max(runs, key=completeness_key)
        child = children[number] = ChildRun(on_front=run.data.tags.get("pareto") == "true")
        if run.data.tags.get(PARENT) != parent:
            client.set_tag(run.info.run_id, PARENT, parent)
        for duplicate in runs:
            if duplicate is not run and duplicate.data.tags.get("pareto") == "true":
                client.set_tag(duplicate.info.run_id, "pareto", "false")
        if run.data.params:
            child.run_id = run.info.run_id
        else:  # the driver died after creating the run and before logging its parameters
            child.uncertain = True
        if run.info.status in ENDED and number in ended:
            child.complete = True
            continue
        by_epoch = [name for name in run.data.metrics if name.startswith("epoch/")]  # an epoch may lack one of them
        child.logged_epochs = {m.step for name in by_epoch for m in client.get_metric_history(run.info.run_id, name)}
        if number not in ended:
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, RUN_STATUS[TrialState.INTERRUPTED])
            child.interrupted = True
    return children


def finalize_runs(
    client: Any, experiment: str, parent: str, name: str, children: Mapping[int, ChildRun], status: str
) -> None:  # fmt: skip
    """Set the final status of a study's run, mark trials that no longer run as interrupted, and remove duplicates.

    Args:
        client: MLflow client.
        experiment: experiment ID.
        parent: run ID of the study.
        name: name of the study's run.
        children: the runs of trials that are kept.
        status: MLflow's status of the study's run.
    """
    duplicates = []
    for run in trial_runs(client, experiment, name):
        child = children.get(int(run.data.tags[NUMBER]))
        kept = child.run_id if child and child.run_id else run.info.run_id
        if kept != run.info.run_id:
            duplicates.append((run, kept))
        elif run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, RUN_STATUS[TrialState.INTERRUPTED])
    client.set_terminated(parent, status)
    duplicates += [(run, parent) for run in study_runs(client, [experiment], name) if run.info.run_id != parent]
    for run, kept in duplicates:
        drop_duplicate(client, run.info.run_id, kept)


def drop_duplicate(client: Any, run_id: str, kept: str) -> None:
    """Delete a run that was created twice because the reply to its creation was lost.

    Without permission to delete, the run is only tagged; `trial_runs` skips tagged duplicates, and none is on a front.
    """
    from mlflow.exceptions import MlflowException

    client.set_tag(run_id, DUPLICATE_OF, kept)
    client.set_tag(run_id, "pareto", "false")
    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
