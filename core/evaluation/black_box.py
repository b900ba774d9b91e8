"""Black-box attacks by transfer: accuracy on images that an attack makes on other networks (Papernot et al. 2016)."""

from collections.abc import Mapping

import torch

from core import rng
from core.attacks.named import attacks_of
from core.attacks.suite import EVAL_BATCH, correct
from core.bound import TARGET, Bound, Trained
from core.data import Images
from core.evaluation.robustness import attacked_images
from core.evaluation.stored import threat_model
from core.modes import with_autograd


@with_autograd
def transfer_accuracy(
    networks: Mapping[str, Trained], images: Images, device: torch.device | str = "cpu", *, attack: str = "fgsm"
) -> dict[str, float]:
    """Accuracy of a network on the images that an attack makes on each source, and on the network itself.

    The attack knows the true labels. Its images replace all clean ones, also those that the network misclassifies, as in the BPFC
    paper (Addepalli et al. 2020, Table 3): an accuracy can exceed that on clean images. The verdicts of a suite cannot, because an
    image that is misclassified without an attack counts as fooled there. An attack of several steps takes them all, because images
    further beyond the source's boundary transfer better.

    Args:
        networks: the attacked network, as `TARGET`, and the sources by name.
        images: the pool.
        device: device to run on.
        attack: one attack with its settings; see `core.attacks.named`. Its radius, its norm, and the images are those that the
            settings `judge.*` of the attacked network name.

    Returns:
        `white_box`, the accuracy on images made on the network itself, and `black_box/<source>` for each source, in [0, 1].

    Raises:
        ValueError: a source has the seed or the weights of the attacked network, or `attack` is not one attack.
    """
    config, target = networks[TARGET]
    for name, (settings, source) in networks.items():
        if name != TARGET and (settings.seed == config.seed or same_weights(source, target)):
            raise ValueError(f"the source {name} is not independent of the attacked network: it has its seed or its weights")
    named = list(attacks_of(attack, config.judge.restarts).items())
    if len(named) != 1:
        raise ValueError(f"one attack is needed, got {attack!r}")
    (label, single), device = named[0], torch.device(device)
    settings = {**single.knobs, **({"stop_when_fooled": False} if "stop_when_fooled" in single.knobs else {})}
    rows = config.parts(images).judged(config.judge.part)
    x, y, ids = attacked_images(config, images, rows, device)
    noise = rng.per_image(config.seed, "attack", ids=ids.to(device)).named(label)
    accuracies = {}
    for name, (_, source) in networks.items():
        hits = 0
        for part in torch.arange(len(y), device=device).split(EVAL_BATCH):
            draw = {"draw": noise.at(part)} if single.random else {}
            made = single.run(source.net, x[part], y[part], **threat_model(config.judge), **settings, **draw)
            hits += int(correct(target.net, made, y[part]).sum())
        accuracies["white_box" if name == TARGET else f"black_box/{name}"] = hits / len(y)
    return accuracies


def same_weights(first: Bound, second: Bound) -> bool:
    """Whether two networks have the same parameters."""
    pairs = [list(bound.net.parameters()) for bound in (first, second)]
    return len(pairs[0]) == len(pairs[1]) and all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
