"""Robustness by training, crafting, retraining and evaluating (sparsity paper, Section 4.2 and Table 1).

The paper follows an example of the Adversarial Robustness Toolbox: a network is trained; adversarial versions of the training and
test images are crafted on it; it is trained further on the clean and the crafted training images; and it is evaluated on the test
images crafted before, on the network that it was. Such images test how well the network has learned them, and not what an attacker
can do who knows the network, for which they have to be crafted again.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from core.attacks.deepfool import deepfool
from core.attacks.gradient import fgsm, pgd
from core.attacks.named import LENGTH
from core.attacks.suite import EVAL_BATCH, correct
from core.bound import TARGET, Bound, Trained
from core.config import TrialConfig
from core.data import Images
from core.errors import unknown
from core.knobs import Bounds, knobs
from core.modes import as_float, predict
from core.nets import Net
from core.perturbations.adversarial import RADIUS
from core.train import train


@knobs
class Retraining:
    """Settings of the protocol. The defaults are those of the toolbox and of its example."""

    attacks: str = "deepfool+fgsm+pgd"
    """Attacks of `ATTACKS` separated by +; for each, the network is retrained separately."""
    epsilon: Annotated[float, RADIUS] = 0.3
    """Radius of FGSM and PGD in Linf, in units of [0, 1] images. DeepFool has none."""
    steps: Annotated[int, Bounds(1)] = 100
    """Number of PGD steps, from the image itself; all of them are taken."""
    step_size: Annotated[float, LENGTH] = 0.1
    """Length of a PGD step, in units of [0, 1] images."""
    deepfool_steps: Annotated[int, Bounds(1)] = 100
    """Largest number of DeepFool steps."""
    overshoot: Annotated[float, Bounds(0)] = 1e-6
    """Step of DeepFool beyond the boundary, as a share of the perturbation."""
    labels: Literal["predicted", "true"] = "predicted"
    """Labels from which the attacks lead away: the classes that the attacked network predicts, as in the toolbox, or the true ones.
    With predicted ones, an attack may correct an image that was misclassified."""
    epochs: Annotated[int, Bounds(1)] = 10
    """Number of epochs of the retraining."""
    test_images: Annotated[int, Bounds(0)] = 500
    """Number of test images; 0 is all."""

    def check(self) -> None:
        """Reject unknown attacks."""
        for name in self.attacks.split("+"):
            if name not in ATTACKS:
                raise unknown("attack", name, ATTACKS)


ATTACKS = {
    "deepfool": lambda s: partial(deepfool, steps=s.deepfool_steps, overshoot=s.overshoot),
    "fgsm": lambda s: partial(fgsm, epsilon=s.epsilon),
    "pgd": lambda s: partial(pgd, epsilon=s.epsilon, steps=s.steps, step_size=s.step_size),
}
"""The paper's attacks by name: settings of the protocol -> (net, x, y) -> images."""


def adversarial_retraining(
    networks: Mapping[str, Trained], images: Images, device: torch.device | str, **settings: Any
) -> dict[str, float]:
    """Accuracy on adversarial test images before and after retraining on adversarial training images.

    Args:
        networks: the trained network, as `TARGET`; it is not changed.
        images: the pool.
        device: device of the network.
        settings: those of `Retraining`.

    Returns:
        For each attack, accuracies on the first test images of the part that `judge.part` names:
        - `noretrain/<attack>`: the network, on images crafted on it;
        - `static/<attack>`: the retrained network, on the same images, as in the paper;
        - `whitebox/<attack>`: the retrained network, on images crafted on itself;
        - `clean/<attack>`: the retrained network, on the test images as they are.

    Raises:
        InputError: the value of a setting is not legal.
        TrialError: the loss of an epoch is not finite.
    """
    protocol, (config, bound) = Retraining(**settings), networks[TARGET]
    parts = config.parts(images)
    members = images.at(parts.members).to(torch.device(device))
    test = images.at(parts.judged(config.judge.part)[: protocol.test_images or None]).to(torch.device(device))
    x, y = as_float(test.x), test.y
    values: dict[str, float] = {}
    for attack in protocol.attacks.split("+"):
        crafted_members = _craft(bound.net, as_float(members.x), members.y, attack, protocol)
        retrained = retrain(config, bound, members, crafted_members, protocol)
        crafted, again = (_craft(net, x, y, attack, protocol) for net in (bound.net, retrained))
        evaluated = {
            "noretrain": (bound.net, crafted), "static": (retrained, crafted), "whitebox": (retrained, again),
            "clean": (retrained, x),
        }  # fmt: skip
        for name, (net, shown) in evaluated.items():
            values[f"{name}/{attack}"] = correct(net, shown, y).double().mean().item()
    return values


def _craft(net: nn.Module, x: Tensor, y: Tensor, attack: str, protocol: Retraining) -> Tensor:
    """Adversarial versions of images.

    Args:
        net: images -> logits; attacked in evaluation mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
        attack: name of the attack in `ATTACKS`.
        protocol: settings.
    """
    labels = predict(net, x).argmax(1) if protocol.labels == "predicted" else y
    run = ATTACKS[attack](protocol)
    return torch.cat([run(net, *part) for part in zip(x.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True)])


def retrain(config: TrialConfig, bound: Bound, members: Images, crafted: Tensor, protocol: Retraining) -> Net:
    """Train a copy of a network further on its members and on adversarial versions of them, with a new optimizer.

    The result is the network of the last epoch.

    Args:
        config: configuration of the network.
        bound: the network with its components.
        members: the images that it was trained on.
        crafted: their adversarial versions in [0, 1], [N, c, h, w], with the same labels.
        protocol: settings.
    """
    both = Images(torch.cat([as_float(members.x), crafted]), members.y.repeat(2), members.classes)
    nobody = members.at(torch.arange(0))
    config = config.set({"epochs": protocol.epochs, "selection": "none"})
    return train(config, both, nobody, device=crafted.device, start=bound.state()["modules"]).net
