"""Accuracy over the power of perturbations, which is their mean L2 norm (Lee, Han, Lee 2017, Figures 2 to 4).

    direct_curve       fast gradient images made on the network itself
    indirect_curve     fast gradient images made on another network
    generator_curve    images of generators that are trained against the frozen network, beside fast gradient images

The images are the first `judge.images` of `judge.part`. All are perturbed, also those that the network misclassifies already, and
clipped to [0, 1].
"""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from core.attacks.power import accuracy_over_power, fast_gradient, power, with_power
from core.attacks.suite import correct
from core.bound import TARGET, Trained
from core.data import Images
from core.errors import InputError
from core.evaluation.black_box import same_weights
from core.evaluation.robustness import attacked_images
from core.perturbations.frozen_gat import GeneratorTraining, fit_generator, generated, new_adversary
from core.perturbations.gat import GAT
from core.space import number

Networks = Mapping[str, Trained]
Values = dict[str, float | list[float]]
POWERS = "0,0.1,0.25,0.5,0.75,1,1.5,2,3"
"""Powers of the curves, in units of [0, 1] images: 1.74 is a signed step of 8/255 on 32x32 RGB images."""


def direct_curve(networks: Networks, images: Images, device: torch.device, *, powers: str = POWERS) -> Values:
    """Accuracy of the network under FG-L2 images that are made on itself (Eq. 3, Figure 3).

    Args:
        networks: the network as `TARGET`.
        images: the pool.
        device: device to compute on.
        powers: mean L2 norms, separated by commas.

    Returns:
        The series `power` and `accuracy_over_power`; each value as `accuracy_at/<power>`, and `mean_accuracy_over_power`, the
        area under the curve by trapezoids, divided by the range of the powers.

    Raises:
        InputError: `powers` is not a list of at least two increasing numbers.
        ValueError: see `core.attacks.power.with_power`.
    """
    return _curve(networks[TARGET], networks[TARGET], images, device, powers)


def indirect_curve(
    networks: Networks, images: Images, device: torch.device, *, source: str = "another", powers: str = POWERS
) -> Values:
    """Accuracy of the network under FG-L2 images that are made on another network (Figure 4).

    Args:
        networks: the network as `TARGET`, and the other one.
        images, device, powers: see `direct_curve`.
        source: name of the other network.

    Returns:
        See `direct_curve`.

    Raises:
        InputError, ValueError: see `direct_curve`.
        ValueError: the source has the same seed or the same weights.
    """
    (config, target), (settings, other) = networks[TARGET], networks[source]
    if settings.seed == config.seed or same_weights(other, target):
        raise ValueError(f"the source {source} is not independent of the attacked network: it has its seed or its weights")
    return _curve(networks[TARGET], networks[source], images, device, powers)


def generator_curve(
    networks: Networks, images: Images, device: torch.device, *, c_g: str = "0.03,0.1,0.3,1,3", lr_g: float = 1e-6,
    delta_scale: str = "none", width: int = 48, epochs: int = 200, patience: int = 20, batch_size: int = 128,
) -> Values:  # fmt: skip
    """Accuracy under generators that are trained against the frozen network, and under FG images of the same power (Figure 2).

    The generators are trained on the network's members, and their training is stopped by its `val` images.

    Args:
        networks: the network as `TARGET`.
        images, device: see `direct_curve`.
        c_g: weights of the squared L2 norm in the generator's loss, separated by commas; one generator is trained for each.
        lr_g, delta_scale, width: see `core.perturbations.gat.GAT`.
        epochs, patience, batch_size: see `core.perturbations.frozen_gat.GeneratorTraining`.

    Returns:
        The series `c_g`, `power`, `accuracy/generator`, `accuracy/fg_l2`, `accuracy/fg_linf`, `gain` (the accuracy under FG-L2
        images minus that under the generator's) and `epochs` (of the generator that is kept), in the order of `c_g`; each value
        as `<series>/<c_g>`.

    Raises:
        InputError: a setting is not legal.
        ValueError: see `core.perturbations.frozen_gat.fit_generator` and `core.attacks.power.with_power`.
    """
    config, bound = networks[TARGET]
    weights = _numbers("c_g", c_g)
    parts = config.parts(images)
    members, val = images.at(parts.members).to(device), images.at(parts.val).to(device)
    x, y, _ = attacked_images(config, images, parts.judged(config.judge.part), device)
    directions = {"fg_l2": fast_gradient(bound.net, x, y, norm="l2"), "fg_linf": fast_gradient(bound.net, x, y, norm="linf")}
    training = GeneratorTraining(epochs=epochs, patience=patience, batch_size=batch_size)
    series: dict[str, list[float]] = {"c_g": weights}

    def record(name: str, value: float) -> None:
        series.setdefault(name, []).append(value)

    def accuracy_on(x_adv: Tensor) -> float:
        return correct(bound.net, x_adv, y).double().mean().item()

    for weight in weights:
        settings = GAT(c_g=weight, lr_g=lr_g, delta_scale=delta_scale, width=width)  # pyright: ignore[reportArgumentType]
        adversary = new_adversary(bound.net, members, settings, config.seed)
        fitted = fit_generator(adversary, bound.net, members, val, training, config.seed)
        x_adv = generated(adversary, bound.net, x, y)
        reached = power(x_adv, x)
        record("epochs", fitted.best_epoch)
        record("power", reached)
        record("accuracy/generator", accuracy_on(x_adv))
        for name, direction in directions.items():
            record(f"accuracy/{name}", accuracy_on(with_power(x, direction, reached).x_adv))
        record("gain", series["accuracy/fg_l2"][-1] - series["accuracy/generator"][-1])
    singles = {f"{name}/{weight:g}": v for name, values in series.items() for weight, v in zip(weights, values, strict=True)}
    return {**series, **singles}


def _curve(target: Trained, source: Trained, images: Images, device: torch.device, powers: str) -> Values:
    """Accuracy of `target` on FG-L2 images of each power that are made on `source`; see `direct_curve`."""
    config, wanted = target.config, _numbers("powers", powers)
    if len(wanted) < 2:
        raise InputError(f"powers={powers} has one power, and a curve needs two; add another one, such as 0")
    x, y, _ = attacked_images(config, images, config.parts(images).judged(config.judge.part), device)
    accuracy = accuracy_over_power(target.bound.net, x, y, fast_gradient(source.bound.net, x, y), wanted)
    area = torch.trapezoid(torch.tensor(accuracy, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64)).item()
    singles = {f"accuracy_at/{at:g}": value for at, value in zip(wanted, accuracy, strict=True)}
    mean = area / (wanted[-1] - wanted[0])
    return {"power": wanted, "accuracy_over_power": accuracy, "mean_accuracy_over_power": mean, **singles}


def _numbers(name: str, text: str) -> list[float]:
    """The increasing numbers, not below 0, of a text like 0,0.5,1.

    Raises:
        InputError: the text has none, or they do not increase.
    """
    values = [number(part) for part in text.split(",") if part.strip()]
    if not values or values[0] < 0 or any(low >= high for low, high in itertools.pairwise(values)):
        raise InputError(f"{name}={text} must be increasing numbers from 0 on, separated by commas, such as 0,0.5,1")
    return values
