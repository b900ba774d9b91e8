"""Registering a chosen network in MLflow, with checks that it has the reported accuracy."""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch

from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, first_line
from core.evaluation.stored import stored_model
from core.modes import as_float, predict
from core.redaction import redacted
from trainables.decisions.choice import Pick
from trainables.decisions.model_card import card, raised_flags, short
from trainables.storage.results import REPLACE, evidence
from trainables.storage.store import Store
from trainables.study.data_identity import DataIdentity
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.tracking.client import NAME, NUMBER, VERSION
from trainables.tracking.registry import LoadedModel, log_model, register_model, registered_version

MAX_DISAGREEMENT = 0.005
"""Change of the accuracy that another machine's arithmetic may cause; a larger one means another network or other images."""


def register(
    picked: Pick, outcome: Outcome, plan: Plan, images: Images, store: Store, site: Site, run: str, name: str,
    facts: Mapping[str, str],
) -> tuple[str, bool]:  # fmt: skip
    """Log the chosen network in the run of its trial, and register it, unless that has been done.

    Args:
        picked: the chosen network.
        outcome: the outcome of its study at the newest version.
        plan: the plan of its study.
        images: the pool of its study.
        store: the study's folder.
        site: location of MLflow.
        run: MLflow run of the trial.
        name: name of the registered model.
        facts: facts of this command.

    Returns:
        The model's URI, and whether it is new.

    Raises:
        InputError: the stored network does not have the reported accuracy, or MLflow rejects it.
    """
    from mlflow.exceptions import MlflowException

    network, uri = picked.network, site.tracking_uri
    config = TrialConfig.of(network.params)
    known = evidence(store, network.folder)
    rows, labels = known["rows"], known["labels"]
    modules = store.read_state(f"{network.folder}/network.pt", REPLACE)
    if modules is None:
        raise InputError(f"{network.name} of {plan.name} has no network.pt in {store.root}/{network.folder}")
    net = stored_model(config, modules, images, torch.device("cpu")).net
    x = as_float(images.x[rows]).contiguous()
    _check_accuracy("the stored network", predict(net, x).numpy(), labels, picked)
    fingerprint = DataIdentity.of(images).fingerprint
    weights = hashlib.sha256(store.read(f"{network.folder}/network.pt") or b"").hexdigest()[:32]
    tags = _tags(picked, outcome, plan, fingerprint, weights, len(known["member_rows"]))
    try:
        if registered := registered_version(uri, name, tags):
            return registered, False
        text = card(picked, outcome, plan, known, images, fingerprint, facts)
        logged = log_model(net, images, x[:2], text, run, facts["commit"], uri)
        _check_accuracy("the model read back from MLflow", LoadedModel(logged.model_uri).logits(x), labels, picked)
        tags |= {"commit": facts["commit"]}
        return register_model(name, logged, run, tags, short(text), plan.question, uri), True
    except (MlflowException, OSError) as error:
        raise InputError(f"MLflow at {redacted(uri)} does not accept the model: {first_line(error)}") from None


def _check_accuracy(what: str, logits: np.ndarray, labels: np.ndarray, picked: Pick) -> None:
    """Raise an error if a network's accuracy differs from the reported one."""
    accuracy, reported = float((logits.argmax(1) == labels).mean()), picked.network.metrics["accuracy"]
    if abs(accuracy - reported) > MAX_DISAGREEMENT:
        raise InputError(f"{what} has accuracy {accuracy:.4f} on the images of {picked.network.name}, reported is {reported:.4f}")


def _tags(picked: Pick, outcome: Outcome, plan: Plan, fingerprint: str, weights: str, members: int) -> dict[str, str]:
    """Tags of a model version, for filters; the same choice always has the same tags."""
    chosen, numbers = picked.chosen, [str(other.point.number) for other in picked.chosen.runners_up if picked.confirmed]
    tags = {
        NAME: plan.name, NUMBER: str(picked.trial.number), VERSION: str(outcome.version),
        "network": picked.network.folder, "weights_sha256": weights, "picked_by": " ".join(chosen.words),
        "confirmed": str(picked.confirmed).lower(), "dataset": str(picked.network.params["dataset"]),
        "data_fingerprint": fingerprint, "members": str(members), "flags": " ".join(raised_flags(picked)),
        "runners_up": " ".join(numbers),
    }  # fmt: skip
    for metric in (o.metric for o in plan.objectives):
        value = chosen.values[metric]
        tags |= {metric: repr(value.shrunk), f"{metric}.interval": " to ".join(map(repr, value.shrunk_interval))}
        tags |= {f"{metric}.mean": repr(value.mean), f"{metric}.this_network": repr(picked.own(metric))}
        if math.isfinite(value.chance):
            tags |= {f"{metric}.chance": repr(value.chance), f"{metric}.resolved": str(value.resolved).lower()}
    return tags
