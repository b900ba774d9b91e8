"""A picked network in MLflow's model registry, with a card that says what it can and cannot do.

It is stored as a graph by `torch.export`: loading it needs PyTorch and MLflow, none of this project's code, and no pickle is
executed (`MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false` works). Its weights are on the CPU, and so it runs there.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import data
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, redacted
from core.subject import stored
from core.train import as_float, predict
from trainables import content, preflight
from trainables.card import card, raised_flags, short
from trainables.outcome import Outcome
from trainables.pick import Pick, interval_text
from trainables.plan import Plan, Site
from trainables.results import evidence
from trainables.store import Store
from trainables.tracking import KIND, NAME, NUMBER, VERSION, connect

AGREES = 0.005
"""Share of the images that another machine's arithmetic may classify otherwise; more is another network, or are other images."""


class Served(nn.Module):
    """A network as `core.train.predict` asks it: float images in [0, 1], channels last in memory -> float32 logits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits, [B, C]."""
        return self.net(x.contiguous(memory_format=torch.channels_last)).float()


class _ForCPU:
    """MLflow's PyTorch flavor, but a model that stays on the CPU where there is a GPU, too: an exported graph cannot move."""

    @staticmethod
    def save_model(path: str, mlflow_model: Any, card: str, **more: Any) -> None:
        """Called by MLflow. The card goes where the model goes."""
        from mlflow.pytorch import save_model

        save_model(path=path, mlflow_model=mlflow_model, **more)
        mlflow_model.flavors["python_function"]["config"]["device"] = "cpu"
        mlflow_model.save(str(Path(path) / "MLmodel"))
        (Path(path) / "model_card.md").write_text(card, encoding="utf-8")


def child_run(plan: Plan, number: int, uri: str) -> str:
    """The MLflow run of a trial.

    Raises:
        InputError: the tracking server cannot be used or does not know it.
    """
    preflight.check_tracking(uri, plan.study)
    lacks = InputError(f"--tracking-uri {uri} has no run of trial {number} of {plan.name}; --resume {plan.name} logs it there")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise lacks  # asking would make the database
    client = connect(uri)
    experiment = client.get_experiment_by_name(plan.study)
    what = f"tags.`{NAME}` = '{plan.name}' and tags.`{KIND}` = 'trial' and tags.`{NUMBER}` = '{number}'"
    runs = client.search_runs([experiment.experiment_id], what) if experiment else []
    if not runs:
        raise lacks
    return runs[0].info.run_id


def checked_name(name: str) -> str:
    """The name of a registered model.

    Raises:
        InputError: MLflow could not take it.
    """
    if not name.strip() or set("/:%.\"'") & set(name):
        raise InputError(f"--name {name!r}: a registered model's name is not empty and has none of / : % . \" '")
    return name


def register(
    picked: Pick, outcome: Outcome, plan: Plan, store: Store, site: Site, run: str, name: str, facts: Mapping[str, str]
) -> tuple[str, bool]:
    """Log the picked network in the run of its trial, and register it, unless that has been done.

    Args:
        picked, outcome, plan, store: what, of which study at its newest version. site: where data and MLflow are.
        run: of the trial. name: of the registered model. facts: of this command.

    Returns:
        The model's URI, and whether it is new.

    Raises:
        InputError: the stored network does not do what was reported of it, or MLflow refuses it.
    """
    from mlflow.exceptions import MlflowException

    config = TrialConfig.of(picked.network.params)
    images = data.load(config.dataset, site.data_dir, config.pool)
    known = evidence(store, picked.network.folder, ())
    rows, labels = known["rows"], known["labels"]
    if rows.max() >= len(images.y) or not np.array_equal(images.y.numpy()[rows], labels):
        raise InputError(f"{config.dataset} now holds other images than when {plan.name} was judged; is --data-dir right?")
    modules = store.read_state(f"{picked.network.folder}/network.pt")
    if modules is None:
        raise InputError(f"{picked.network.name} of {plan.name} has no network.pt in {store.root}/{picked.network.folder}")
    net = stored(config, modules, images, torch.device("cpu")).net
    x = as_float(images.x[rows]).contiguous()
    _check_accuracy("the stored network", lambda x: predict(net, x).numpy(), x, labels, picked)
    fingerprint, commit = content.of_images(images), facts["commit"]
    weights = hashlib.sha256(store.read(f"{picked.network.folder}/network.pt") or b"").hexdigest()[:32]
    tags = _tags(picked, outcome, plan, fingerprint, weights, len(known["member_rows"]))
    try:
        client = connect(site.tracking_uri)
        for made in client.search_model_versions(f"name = '{name}'"):
            if tags.items() <= made.tags.items():
                return f"models:/{name}/{made.version}", False
        text = card(picked, outcome, plan, known, images, fingerprint, facts)
        logged = _log(net, images, x[:2], text, run, site.tracking_uri)
        _check_accuracy("the model read back from MLflow", _loaded(logged.model_uri), x, labels, picked)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=plan.question)
        made = client.create_model_version(
            name, logged.model_uri, run, tags={**tags, "commit": commit}, description=short(text), model_id=logged.model_id
        )
    except (MlflowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"MLflow at {redacted(site.tracking_uri)} does not take the model: {reason}") from None
    return f"models:/{name}/{made.version}", True


def _log(net: nn.Module, images: Images, example: Tensor, text: str, run: str, uri: str) -> Any:
    """The network as a logged model of a run, whose state stays as it is."""
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(*shape: int) -> Schema:
        return Schema([TensorSpec(np.dtype("float32"), (-1, *shape))])

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=connect(uri).get_run(run).info.experiment_id)  # else it lies in MLflow's default one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export, about weights that are channels last
        return Model.log(
            artifact_path=None, name="model", flavor=_ForCPU, run_id=run, pytorch_model=Served(net).eval(), card=text,
            signature=ModelSignature(inputs=spec(*images.shape), outputs=spec(images.classes)),
            input_example=example.numpy(),  # of two images: of one, the graph would take single images only
            serialization_format="pt2", pip_requirements=[f"{package}=={version(package)}" for package in ("torch", "numpy")],
        )  # fmt: skip


def _loaded(uri: str) -> Callable[[Tensor], np.ndarray]:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(uri)
    return lambda x: np.concatenate([model.predict(part.numpy()) for part in x.split(512)])


def _check_accuracy(what: str, logits: Callable[[Tensor], np.ndarray], x: Tensor, labels: np.ndarray, picked: Pick) -> None:
    found, reported = float((logits(x).argmax(1) == labels).mean()), picked.network.metrics["accuracy"]
    if abs(found - reported) > AGREES:
        raise InputError(f"{what} has accuracy {found:.4f} on the images of {picked.network.name}, reported is {reported:.4f}")


def _tags(picked: Pick, outcome: Outcome, plan: Plan, fingerprint: str, weights: str, members: int) -> dict[str, str]:
    """What a model version is filtered by; those of the same choice are the same."""
    tags = {
        NAME: plan.name, NUMBER: str(picked.candidate.trial.number), VERSION: str(outcome.version),
        "network": picked.network.folder, "weights_sha256": weights, "picked_by": " ".join(picked.wish.words),
        "confirmed": str(picked.confirmed).lower(), "dataset": str(picked.network.params["dataset"]),
        "data_fingerprint": fingerprint, "members": str(members), "flags": " ".join(raised_flags(picked)),
    }  # fmt: skip
    for metric in (o.metric for o in plan.objectives):
        mean, interval = picked.candidate.numbers(metric)
        tags |= {metric: repr(mean), f"{metric}.interval": interval_text(interval)}
        tags[f"{metric}.this_network"] = repr(picked.network.metrics[metric])
    return tags
