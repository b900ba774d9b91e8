"""MLflow's model registry: storing a network so that it loads without this project, and registering it.

A network is stored as a graph by `torch.export`. Loading it needs PyTorch and MLflow but none of this project's code, and executes
no pickle (`MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false` works). Its weights are on the CPU, where it runs.
"""

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data import Images
from core.errors import InputError
from trainables.study.plan import Plan
from trainables.study.tracking_uri import for_mlflow, sqlite_path
from trainables.tracking.client import NUMBER, check_tracking, completeness_key, connect, trial_runs


class ServedModel(nn.Module):
    """A network as `core.modes.predict` calls it: float images in [0, 1], channels last in memory -> float32 logits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits, [B, C]."""
        return self.net(x.contiguous(memory_format=torch.channels_last)).float()


class _CPUFlavor:
    """MLflow's PyTorch flavor for a model that stays on the CPU, because an exported graph cannot be moved to a GPU."""

    @staticmethod
    def save_model(path: str, mlflow_model: Any, card: str, **settings: Any) -> None:
        """Save the model and its card; MLflow calls this."""
        from mlflow.pytorch import save_model

        save_model(path=path, mlflow_model=mlflow_model, **settings)
        mlflow_model.flavors["python_function"]["config"]["device"] = "cpu"
        mlflow_model.save(str(Path(path) / "MLmodel"))
        (Path(path) / "model_card.md").write_text(card, encoding="utf-8")


class LoadedModel:
    """A model that was read back from MLflow."""

    def __init__(self, uri: str):
        import mlflow.pyfunc

        self.model = mlflow.pyfunc.load_model(uri)

    def logits(self, x: Tensor) -> np.ndarray:
        """Logits of images in [0, 1], [N, C]."""
        return np.concatenate([self.model.predict(part.numpy()) for part in x.split(512)])


def child_run(plan: Plan, number: int, uri: str) -> str:
    """The MLflow run of a trial.

    Raises:
        InputError: the tracking store cannot be used, or does not have the run.
    """
    check_tracking(uri, plan.study)
    missing = InputError(f"--tracking-uri {uri} has no run of trial {number} of {plan.name}; --resume {plan.name} logs it there")
    if (path := sqlite_path(uri)) and not path.exists():
        raise missing  # connecting would create the database
    client = connect(uri)
    experiment = client.get_experiment_by_name(plan.study)
    query = f" and tags.`{NUMBER}` = '{number}'"
    runs = trial_runs(client, experiment.experiment_id, plan.name, query) if experiment else []
    if not runs:
        raise missing
    return max(runs, key=completeness_key).info.run_id


def checked_name(name: str) -> str:
    """Check and return the name of a registered model.

    Raises:
        InputError: MLflow does not accept the name.
    """
    if not name.strip() or set("/:%.\"'") & set(name):
        raise InputError(f"--name {name!r}: a registered model's name is not empty and has none of / : % . \" '")
    return name


def registered_version(uri: str, name: str, tags: Mapping[str, str]) -> str:
    """The model URI of a registered version with these tags; empty if there is none."""
    for registered in connect(uri).search_model_versions(f"name = '{name}'"):
        if tags.items() <= registered.tags.items():
            return f"models:/{name}/{registered.version}"
    return ""


def log_model(net: nn.Module, images: Images, example: Tensor, card: str, run: str, commit: str, uri: str) -> Any:
    """Log a network as a model of a run; the status of the run does not change.

    Args:
        net: the network, on the CPU.
        images: the pool, for the signature.
        example: two images in [0, 1]; with one, the exported graph would accept single images only.
        card: the model card.
        run: run ID.
        commit: commit of this project's code. MLflow would record that of whatever repository the command is in.
        uri: MLflow tracking URI.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(*shape: int) -> Schema:
        return Schema([TensorSpec(np.dtype("float32"), (-1, *shape))])

    mlflow.set_tracking_uri(for_mlflow(uri))
    mlflow.set_experiment(experiment_id=connect(uri).get_run(run).info.experiment_id)  # otherwise MLflow uses its default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export, about weights that are channels last
        return Model.log(
            artifact_path=None, name="model", flavor=_CPUFlavor, run_id=run, pytorch_model=ServedModel(net).eval(), card=card,
            signature=ModelSignature(inputs=schema(*images.shape), outputs=schema(images.classes)),
            input_example=example.numpy(), serialization_format="pt2",
            tags={"mlflow.source.git.commit": commit, "mlflow.source.git.branch": "", "mlflow.source.git.repoURL": ""},
            pip_requirements=[f"{package}=={version(package)}" for package in ("torch", "numpy")],
        )  # fmt: skip


def register_model(name: str, logged: Any, run: str, tags: Mapping[str, str], description: str, question: str, uri: str) -> str:
    """Register a logged model; returns its model URI.

    Args:
        name: name of the registered model.
        logged: the logged model.
        run: run ID of the model.
        tags: tags of the version.
        description: description of the version.
        question: description of the registered model, if it is new.
        uri: MLflow tracking URI.
    """
    client = connect(uri)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=question)
    made = client.create_model_version(
        name, logged.model_uri, run, tags=dict(tags), description=description, model_id=logged.model_id
    )
    return f"models:/{name}/{made.version}"
