"""Keys of trainings and evaluations, by which nothing is trained or evaluated twice.

A training is determined by the settings of a configuration except those of the evaluation (`judge.*`), by the images, and by the
code of the training loop and of the components that the configuration names. An evaluation is determined by all settings, the
images, and all code of `core`.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from core.config import CHOICES
from core.data import Images
from core.space import Value
from trainables.storage.code import Definition, core_code
from trainables.study.data_identity import DataIdentity

TRAINING = (Definition("core.train", "train"), Definition("core.data", "split"))
"""The definitions that train a network, given its members and components."""
REGISTRIES = (
    "CHOICES", "SLOTS", "NETS", "LOSSES", "PERTURBATIONS", "REGULARIZERS", "AUGMENTATIONS", "OPTIMIZERS", "SPLITS", "SELECTIONS",
)  # fmt: skip
"""Names of the definitions that list all components; a training uses only those that its configuration names."""
EVALUATION = ("Judge",)
"""Names of the settings of the evaluation, which are part of a configuration but do not affect the training."""


@dataclass(frozen=True)
class Content:
    """Fingerprints of everything besides the configuration that determines a training or an evaluation."""

    images: str
    """Pixels and labels of the pool, in their order."""
    code: str
    """All code of `core`, and PyTorch's version."""
    training: str
    """Code of the training loop, and PyTorch's version."""
    components: Mapping[str, str]
    """Code of each component, by `slot=name`."""

    @classmethod
    def of(cls, images: Images) -> "Content":
        """The fingerprints of a pool and of the code of this process."""
        code, training, components = _code_fingerprints()
        return cls(DataIdentity.of(images).fingerprint, code, training, components)

    def evaluation_key(self, params: Mapping[str, Value]) -> str:
        """The key of the training and evaluation of a complete configuration in flat form."""
        return _key(self.images, self.code, sorted(params.items()))

    def training_key(self, params: Mapping[str, Value]) -> str:
        """The key of the training of a complete configuration in flat form."""
        own = sorted((name, value) for name, value in params.items() if not name.startswith("judge."))
        components = [self.components[f"{slot}={params[slot]}"] for slot in CHOICES]
        return _key(self.images, self.training, components, own)

    def measurement_key(self, function: Callable[..., Any], networks: Mapping[str, Mapping[str, Value]], settings: Any) -> str:
        """The key of a measurement on trained networks, which may depend on their settings `judge.*`, such as the radius.

        Args:
            function: a function of a module of `core`.
            networks: the complete configuration of each network in flat form, by its name.
            settings: keyword arguments of the function, as plain data.
        """
        code = core_code().fingerprint([Definition(function.__module__, function.__qualname__)], REGISTRIES)
        trained = sorted((name, self.training_key(params)) for name, params in networks.items())
        judged = sorted((name, key, v) for name, own in networks.items() for key, v in own.items() if key.startswith("judge."))
        return _key(self.images, code, torch.__version__, trained, judged, settings)

    def outputs_key(self, params: Mapping[str, Value]) -> str:
        """The key of the outputs of a network for the whole pool, some of which are for adversarial images of the threat model."""
        return _key(self.training_key(params), self.code, params["judge.norm"], params["judge.epsilon"])


def _key(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


@functools.cache
def _code_fingerprints() -> tuple[str, str, dict[str, str]]:
    """`Content.code`, `Content.training` and `Content.components` of this process."""
    code, opaque, torch_version = core_code(), (*REGISTRIES, *EVALUATION), torch.__version__
    components = {
        f"{slot}={name}": code.fingerprint([Definition(cls.__module__, cls.__qualname__)], opaque)
        for slot, family in CHOICES.items() for name, cls in family.items()
    }  # fmt: skip
    everything = code.fingerprint(code.definitions())
    return f"{everything} {torch_version}", f"{code.fingerprint(TRAINING, opaque)} {torch_version}", components
