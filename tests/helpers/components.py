"""Configurations with each component of each slot."""

import pytest

from core.config import SLOTS, TrialConfig
from core.errors import InputError

COMPONENTS = [(slot, name) for slot, family in SLOTS.items() for name in family]
for_every_component = pytest.mark.parametrize("slot, name", COMPONENTS, ids=[f"{slot}={name}" for slot, name in COMPONENTS])
"""Parametrises a test over all components."""
REQUIRED = {("regularizer", "rss"): {"perturbation": "fgsm"}, ("optimizer", "dp_sgd"): {"normalize": False}}
"""Settings that a component requires."""


def config_with(slot: str, name: str) -> TrialConfig:
    """The default configuration with one component, and the settings that it requires."""
    return TrialConfig.of({slot: name, **REQUIRED.get((slot, name), {})})


def assert_config_rejected(params: dict, text: str) -> None:
    """Check that a configuration is rejected with a message of one line that contains a text."""
    with pytest.raises(InputError) as caught:
        TrialConfig.of(params)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
