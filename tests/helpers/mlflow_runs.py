"""Reading what a study has logged to MLflow."""

from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run


class Logged(NamedTuple):
    """The runs of one study: its own and those of its trials, by number."""

    client: MlflowClient
    parent: Run
    children: dict[int, Run]

    @property
    def artifacts(self) -> Path:
        """The folder of the study's artifacts."""
        return Path(self.parent.info.artifact_uri.removeprefix("file://"))


def logged(uri: str, name: str) -> Logged:
    """The runs of the study's run of this name; fails if one was created twice."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`trilemma.name` = '{name}'", max_results=1000)
    (parent,) = [run for run in runs if run.data.tags["trilemma.kind"] == "study"]
    trials = [run for run in runs if run.data.tags["trilemma.kind"] == "trial"]
    children = {int(run.data.tags["trilemma.trial"]): run for run in trials}
    assert len(children) == len(trials) == len(runs) - 1
    return Logged(client, parent, children)
