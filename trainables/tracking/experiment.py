"""The experiment of a study in MLflow, which all studies of a script share: its description, and a saved view for each study."""

from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.tracking.artifacts import create_experiment
from trainables.tracking.contents import NOTE
from trainables.tracking.saved_view import saved_view, view_tag


def open_experiment(client, uri: str, plan: Plan, root: Store | None, now: int) -> str:
    """Create the experiment of a study unless it exists, and set its missing tags; a user may have edited the others.

    Args:
        client: MLflow client.
        uri: MLflow tracking URI.
        plan: plan of the study.
        root: the folder above all studies, if it is known.
        now: time in milliseconds since the epoch.

    Returns:
        The experiment's ID.
    """
    known = client.get_experiment_by_name(plan.study)
    experiment = known.experiment_id if known else create_experiment(client, uri, plan.study, root)
    for name, text in {NOTE: plan.question, view_tag(plan): saved_view(plan, now)}.items():
        if not known or name not in known.tags:
            client.set_experiment_tag(experiment, name, text)
    return experiment
