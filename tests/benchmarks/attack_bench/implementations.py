"""Attacks of Trilemma, torchattacks, Foolbox and ART with equal settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import pgd
from core.attacks.spsa import spsa
from core.attacks.square import square

if TYPE_CHECKING:
    from attack_bench.networks import Target

BATCH = 256
"""Images that an attack receives at a time, at most."""
OURS, TORCHATTACKS, FOOLBOX, ART = "ours", "torchattacks", "Foolbox", "ART"
Attack = Callable[["Target"], Tensor]
"""An attack with its settings; returns adversarial images of a target."""
Implementations = dict[str, Attack]
"""Implementations of one attack, by library."""


def ours(attack: Callable[..., Tensor], *, draw: bool = True, ball: bool = True, **knobs) -> Attack:
    """An attack of `core.attacks`.

    Args:
        attack: the attack.
        draw: whether it takes a `draw`.
        ball: whether it takes an `epsilon`.
        knobs: its settings.
    """

    def run(target: "Target") -> Tensor:
        batches = []
        for rows in torch.arange(len(target.y)).split(BATCH):
            more = {"epsilon": target.epsilon} if ball else {}
            more |= {"draw": rng.per_image(0, "attack", ids=rows)} if draw else {}
            batches.append(attack(target.net, target.x[rows], target.y[rows], **knobs, **more))
        return torch.cat(batches)

    return run


def our_pgd(steps: int, **knobs) -> Attack:
    """PGD with one random start and steps of epsilon / 4, called as `core.attacks.suite` calls it."""

    def run(target: "Target") -> Tensor:
        attack = ours(pgd, steps=steps, step_size=target.epsilon / 4, stop_when_fooled=True, **({"restarts": 1} | knobs))
        return attack(target)

    return run


def in_batches(target: "Target", attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Run an attack of another library on contiguous batches of a target's images."""
    batches = zip(target.x.contiguous().split(BATCH), target.y.split(BATCH), strict=True)
    return torch.cat([attack(x, y).detach() for x, y in batches])


def of_torchattacks(name: str, ball: bool = True, step_share: float = 0.0, **knobs) -> Attack:
    """An attack of torchattacks; `step_share` is the step size as a share of epsilon, 0 for attacks that have none."""

    def run(target: "Target") -> Tensor:
        import torchattacks

        more = ({"eps": target.epsilon} if ball else {}) | ({"alpha": step_share * target.epsilon} if step_share else {})
        return in_batches(target, getattr(torchattacks, name)(target.contiguous_net, **knobs, **more))

    return run


def of_foolbox(name: str, ball: bool = True, **knobs) -> Attack:
    """An attack of Foolbox."""

    def run(target: "Target") -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(target.contiguous_net, bounds=(0, 1), device="cpu")
        attack, more = getattr(foolbox.attacks, name)(**knobs), {"epsilon": target.epsilon} if ball else {}
        return in_batches(target, lambda x, y: attack.run(model, x, y, **more))

    return run


def of_art(name: str, ball: bool = True, step_share: float = 0.0, **knobs) -> Attack:
    """An attack of ART; for `step_share` see `of_torchattacks`."""

    def run(target: "Target") -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        shape, loss = tuple(target.x.shape[1:]), nn.CrossEntropyLoss()
        model = PyTorchClassifier(target.contiguous_net, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu")
        more = ({"eps": target.epsilon} if ball else {}) | ({"eps_step": step_share * target.epsilon} if step_share else {})
        attack = getattr(evasion, name)(model, verbose=False, batch_size=BATCH, **knobs, **more)
        return in_batches(target, lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy())))

    return run


def all_pgd(steps: int, known_correct: bool = False) -> Implementations:
    """PGD; `known_correct` if all images are classified correctly, as where a suite calls the attack."""
    return {
        OURS: our_pgd(steps, skip_misclassified=not known_correct),
        TORCHATTACKS: of_torchattacks("PGD", step_share=0.25, steps=steps),
        FOOLBOX: of_foolbox("LinfPGD", rel_stepsize=0.25, steps=steps),
        ART: of_art("ProjectedGradientDescent", step_share=0.25, max_iter=steps, num_random_init=1),
    }


def all_deepfool() -> Implementations:
    """DeepFool."""
    return {
        OURS: ours(deepfool, draw=False, ball=False),
        TORCHATTACKS: of_torchattacks("DeepFool", ball=False, steps=50, overshoot=0.02),
        FOOLBOX: of_foolbox("L2DeepFoolAttack", ball=False, steps=50, overshoot=0.02, candidates=10),
        ART: of_art("DeepFool", ball=False, max_iter=50, epsilon=0.02, nb_grads=10),
    }


def all_carlini_wagner(steps: int, c: float, searches: int) -> Implementations:
    """Carlini and Wagner's L2 attack; torchattacks has no binary search."""
    knobs = {"steps": steps, "lr": 0.01, "c": c}
    foolbox_knobs = {"steps": steps, "stepsize": 0.01, "initial_const": c, "abort_early": False}
    art_knobs = {"max_iter": steps, "learning_rate": 0.01, "initial_const": c}
    implementations = {
        OURS: ours(carlini_wagner, draw=False, ball=False, search_steps=searches, **knobs),
        TORCHATTACKS: of_torchattacks("CW", ball=False, kappa=0, **knobs),
        FOOLBOX: of_foolbox("L2CarliniWagnerAttack", ball=False, binary_search_steps=searches, **foolbox_knobs),
        ART: of_art("CarliniL2Method", ball=False, binary_search_steps=searches, **art_knobs),
    }
    return implementations if searches == 1 else without(implementations, TORCHATTACKS)


def all_apgd(steps: int) -> Implementations:
    """Auto-PGD with cross-entropy."""
    art_knobs = {"max_iter": steps, "nb_random_init": 1, "loss_type": "cross_entropy"}
    return {
        OURS: ours(apgd, steps=steps),
        TORCHATTACKS: of_torchattacks("APGD", steps=steps, loss="ce"),
        ART: of_art("AutoProjectedGradientDescent", step_share=2.0, **art_knobs),
    }


def all_targeted_apgd(steps: int) -> Implementations:
    """Targeted Auto-PGD."""
    return {OURS: ours(targeted_apgd, steps=steps), TORCHATTACKS: of_torchattacks("APGDT", steps=steps, n_classes=10)}


def all_square(queries: int) -> Implementations:
    """The Square attack."""
    return {
        OURS: ours(square, queries=queries),
        TORCHATTACKS: of_torchattacks("Square", n_queries=queries),
        ART: of_art("SquareAttack", max_iter=queries),
    }


def all_spsa(steps: int) -> Implementations:
    """SPSA."""
    theirs = of_torchattacks("SPSA", nb_iter=steps, nb_sample=128, delta=0.01, lr=0.01)
    return {OURS: ours(spsa, steps=steps, samples=128), TORCHATTACKS: theirs}


def without(implementations: Implementations, *libraries: str) -> Implementations:
    """The implementations of the other libraries."""
    return {name: attack for name, attack in implementations.items() if name not in libraries}


def auto_attack(target: "Target") -> Tensor:
    """AutoAttack's standard version, combined from attacks of torchattacks with the paper's numbers of steps."""
    import torchattacks as ta

    net, eps = target.contiguous_net, target.epsilon
    attacks = [
        ta.APGD(net, eps=eps, steps=100, loss="ce"),
        ta.APGDT(net, eps=eps, steps=100, n_classes=10),
        ta.FAB(net, eps=eps, steps=100, multi_targeted=True, n_classes=10),
        ta.Square(net, eps=eps, n_queries=5000),
    ]
    return in_batches(target, ta.MultiAttack(attacks))
