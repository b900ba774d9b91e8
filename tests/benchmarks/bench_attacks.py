"""The attacks of core/attacks against torchattacks, Foolbox and ART: do they find the same, how fast, and at what limit.

    python3 -m venv /tmp/bench && /tmp/bench/bin/pip install -e .
    /tmp/bench/bin/pip install --no-deps -r tests/benchmarks/requirements-attacks.txt
    /tmp/bench/bin/python tests/benchmarks/bench_attacks.py [agreement speed bound count strong] [--quick] [--data DIR]

The networks are trained at the start and kept in --cache: the all-conv net of width 16 on 8,000 CIFAR-10 images without any
defence, from there with PGD (8/255), and from there with BPFC; and ResNet-18, from 512 images for a few epochs, which is
enough to time attacks and not enough to say anything about ResNet-18. Everything is judged on images that they have not seen.

    agreement  same networks, same images: robust accuracy, or L2 norm of what was found, ours and theirs. A difference of
               robust accuracies beyond twice its binomial error (as if the images were not the same), or a mean norm that
               differs by more than 0.1 % and twice the error of the paired difference, is marked. ours/theirs alone: images
               that only one of both fooled.
    speed      one process, one thread, CPU time, sides in alternating order; median [range] over rounds of theirs / ours in
               the same round, beside what is demanded. Only images that the network gets right, so that nothing is
               dropped for free. Ours is called as core/trial.py calls it, with networks and images in channels-last order;
               the others get contiguous ones, as they come; all take at most 256 images at a time.
    bound      each convolution's forward and input-gradient pass alone, at its real shapes; what the PGD loop reaches of that.
    count      image-steps (images that go forward with a gradient) against 1.15 x standing x steps + 8 x fallen, restart by
               restart; and the verdict of the accelerated loop against that of the plain loop from the same start.
    strong     the suite `strong` against AutoAttack's standard version. That of torchattacks runs APGD and FAB for 10 steps;
               here its attacks are put together anew with the 100 steps that the paper asks for.

Seen on 2 CPU cores (x86-64), PyTorch 2.15.0, torchattacks 3.5.1, Foolbox 3.3.4, ART 1.20.1, one run of 28 minutes in all:

    agreement  PGD-20, APGD-CE, targeted APGD, Square, SPSA: no difference to any peer beyond 0.8 points with 256 images or more
               (sampling error 2 to 4), nor beyond 2.1 with fewer (5 to 10). DeepFool: mean norm within 0.01 % of torchattacks
               and 0.03 % of Foolbox; ART's is 1.2 to 1.5 % longer, because its step comes from another candidate class. C&W:
               equal to Foolbox's (0.00 %, with a search and without; 0.11 +- 0.11 % on one net). torchattacks' C&W is
               0.1 to 2.4 % longer: it ends the whole batch early, and its margin counts the other classes' logits as at least 0.
    speed      net and share standing           attack    theirs / ours (demanded): torchattacks, Foolbox, ART
               all-conv natural, 45 %           PGD-20    1.80 (1.5)   2.51 (2)    2.71 (2)
                                                PGD-50    2.35 (2)
                                                PGD-100   4.52 (2.5)
               all-conv PGD-trained, 25 %       PGD-20    3.32 (1.5)   4.75 (2)    5.20 (2)
                                                PGD-50    4.07 (2)
                                                PGD-100   5.39 (2.5)
               all-conv PGD-trained, 48 %       PGD-20    1.82 (1.5)   2.46 (2)    2.67 (2)
                                                PGD-50    2.10 (2)
                                                PGD-100   2.59 (2.5)
               all-conv natural                 DeepFool  6.24 (4)     5.15 (4)    23
                                                C&W       2.04 (1.5)   2.07        19
               all-conv PGD-trained             DeepFool  5.34 (4)     7.63 (4)
                                                C&W       1.56 (1.5)   1.54
               ResNet-18 natural, 56 %          PGD-10    1.28 (1)     2.02 (1.5)  2.14 (1.5)
               ResNet-18 PGD-trained, 62 %      PGD-10    1.30 (1)     2.05 (1.5)  2.22 (1.5)
               ResNet-18 PGD-trained, 100 %     PGD-10    1.02 (1)     1.56 (1.5)  1.66 (1.5)
               ResNet-18 natural, 4 images      DeepFool  2.79         2.84
                                                C&W       1.56 (1.5)   1.55
               With other work on the cores the ratios fall: DeepFool on the natural net was 3.84 times as fast as Foolbox then.
    bound      all-conv, 256 images: 88 % [82-90]; ResNet-18, 16 images: 93 % [91-97]
    count      0.39 to 0.86 of what is allowed in all twelve rows; no verdict differs from that of the plain loop
    strong     natural at 1/255: 34.5 % and theirs 34.5 %; PGD-trained at 8/255: 17.0 and 17.0; BPFC at 8/255: 10.5 and 10.5;
               200 images each, in 0.5 to 0.6 of their CPU time
"""

import argparse
import copy
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import data, memory, rng
from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.ball import draw_offset, project
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import frozen, pgd
from core.attacks.spsa import spsa
from core.attacks.square import square
from core.attacks.suite import SUITES, attacked
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.space import Value
from core.train import Bound, as_float, bind, predict, train

BATCH = 256
ROOT = Path(__file__).resolve().parents[2]
TORCHATTACKS, FOOLBOX, ART = "torchattacks", "Foolbox", "ART"
SMALL, BIG = "allconv", "resnet18"


# -- networks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How a network is made."""

    changes: dict[str, Value]
    images: int
    after: str = ""
    """The network whose training goes on."""


_SMALL: dict[str, Value] = {"net": "allconv", "net.width": 16, "optimizer": "adam", "augmentation": "crop_flip"}
_BIG: dict[str, Value] = {"net": "resnet18", "optimizer": "sgd", "optimizer.lr": 0.02, "batch_size": 32}
_PGD: dict[str, Value] = {"perturbation": "pgd", "optimizer.lr": 1e-3}
_BPFC: dict[str, Value] = {"regularizer": "bpfc", "regularizer.growth": 3.0, "optimizer.lr": 1e-3}
NATURAL, ROBUST, PAIRED = f"{SMALL} natural", f"{SMALL} PGD-trained", f"{SMALL} BPFC"
BIG_NATURAL, BIG_ROBUST = f"{BIG} natural", f"{BIG} PGD-trained"
TRAININGS = {
    NATURAL: Training({**_SMALL, "epochs": 12, "optimizer.lr": 3e-3}, 8000),
    ROBUST: Training({**_SMALL, **_PGD, "epochs": 20, "perturbation.steps": 3}, 8000, NATURAL),
    PAIRED: Training({**_SMALL, **_BPFC, "epochs": 20}, 8000, NATURAL),
    BIG_NATURAL: Training({**_BIG, "epochs": 4}, 512),
    BIG_ROBUST: Training({**_BIG, **_PGD, "epochs": 6, "perturbation.steps": 2, "optimizer.lr": 0.01}, 512, BIG_NATURAL),
}  # fmt: skip
EPSILON = {NATURAL: 2 / 255, ROBUST: 8 / 255, PAIRED: 8 / 255, BIG_NATURAL: 2 / 255, BIG_ROBUST: 2 / 255}
"""Radii at which some images stand and some fall."""


class Store:
    """The trained networks, kept in a folder."""

    def __init__(self, folder: Path, images: Images):
        self.folder, self.images = folder, images
        self.parts = data.split(images)
        folder.mkdir(parents=True, exist_ok=True)

    def bound(self, name: str) -> Bound:
        """A network with everything that its training needs to go on."""
        how = TRAININGS[name]
        config, members = TrialConfig.of(how.changes), self.images.at(self.parts.members[: how.images])
        earlier = TRAININGS[how.after] if how.after else None
        path = self.folder / f"{name.replace(' ', '-')}-{rng.fold(0, repr((how, earlier, len(self.images.y)))):x}.pt"
        if path.is_file():
            bound = bind(config, members, torch.device("cpu"))
            bound.load(torch.load(path, weights_only=True))
            return bound
        resume = self.bound(how.after).state() if how.after else None
        start = time.process_time()
        bound = train(config, members, self.images.at(self.parts.val), resume=resume)
        torch.save(bound.state(), path)
        accuracy = bound.curve[-1]["epoch/val_accuracy"]
        print(f"trained {name} in {time.process_time() - start:.0f} CPU s, accuracy {accuracy:.1%}", flush=True)
        return bound

    def subject(self, name: str, count: int, pick: str = "") -> "Subject":
        """A network with so many test images; `pick`: only those that it gets "right", or that "stand" under PGD-20."""
        net = self.bound(name).net
        subject = Subject(name, net, self.images.at(self.parts.test), EPSILON[name])
        if pick:
            some = subject.first(4096 if name.startswith(SMALL) else 256)
            keep = some.right(some.x)
            if pick == "stand":
                keep &= some.right(our_pgd(20)(some))
            subject = some.rows(keep.nonzero().squeeze(1))
        if len(subject.y) < count:
            raise SystemExit(f"{name}: only {len(subject.y)} of its images {pick}, {count} are needed; train it for longer")
        return subject.first(count)


class Subject:
    """A network and the images that it is attacked on."""

    def __init__(self, name: str, net: nn.Module, images: Images, epsilon: float):
        self.name, self.net, self.epsilon, self.images = name, net.eval(), epsilon, images
        self.usual = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
        """The network as other libraries get it."""
        self.x, self.y = as_float(images.x), images.y

    def rows(self, rows: Tensor) -> "Subject":
        return Subject(self.name, self.net, self.images.at(rows), self.epsilon)

    def first(self, count: int) -> "Subject":
        return self.rows(torch.arange(min(count, len(self.y))))

    def right(self, x: Tensor) -> Tensor:
        """Which images are classified right, in a forward pass of their own, [N] bool."""
        return predict(self.net, x.to(memory_format=torch.channels_last)).argmax(1) == self.y


# -- attacks, ours and theirs ----------------------------------------------------------------------------------------------

Side = Callable[[Subject], Tensor]
"""Adversarial images of a subject."""


def ours(attack: Callable[..., Tensor], *, draw: bool = True, ball: bool = True, **knobs) -> Side:
    def run(s: Subject) -> Tensor:
        found = []
        for rows in torch.arange(len(s.y)).split(BATCH):
            more = {"epsilon": s.epsilon} if ball else {}
            more |= {"draw": rng.per_image(0, "attack", ids=rows)} if draw else {}
            found.append(attack(s.net, s.x[rows], s.y[rows], **knobs, **more))
        return torch.cat(found)

    return run


def our_pgd(steps: int, **knobs) -> Side:
    def run(s: Subject) -> Tensor:
        side = ours(pgd, steps=steps, step_size=s.epsilon / 4, stop_when_fooled=True, **({"restarts": 1} | knobs))
        return side(s)

    return run


def batches(s: Subject, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    parts = zip(s.x.contiguous().split(BATCH), s.y.split(BATCH), strict=True)
    return torch.cat([attack(x, y).detach() for x, y in parts])


def torchattacks_(name: str, ball: bool = True, share: float = 0.0, **knobs) -> Side:
    """`share`: step size as a share of epsilon, where there is one."""

    def run(s: Subject) -> Tensor:
        import torchattacks

        more = ({"eps": s.epsilon} if ball else {}) | ({"alpha": share * s.epsilon} if share else {})
        return batches(s, getattr(torchattacks, name)(s.usual, **knobs, **more))

    return run


def foolbox_(name: str, ball: bool = True, **knobs) -> Side:
    def run(s: Subject) -> Tensor:
        import foolbox

        model, attack = foolbox.PyTorchModel(s.usual, bounds=(0, 1), device="cpu"), getattr(foolbox.attacks, name)(**knobs)
        more = {"epsilon": s.epsilon} if ball else {}
        return batches(s, lambda x, y: attack.run(model, x, y, **more))

    return run


def art_(name: str, ball: bool = True, share: float = 0.0, **knobs) -> Side:
    def run(s: Subject) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        shape = tuple(s.x.shape[1:])
        model = PyTorchClassifier(s.usual, nn.CrossEntropyLoss(), shape, 10, clip_values=(0.0, 1.0), device_type="cpu")
        more = ({"eps": s.epsilon} if ball else {}) | ({"eps_step": share * s.epsilon} if share else {})
        attack = getattr(evasion, name)(model, verbose=False, batch_size=BATCH, **knobs, **more)
        return batches(s, lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy())))

    return run


def pgd_sides(steps: int, known_right: bool = False) -> dict[str, Side]:
    """`known_right`: the images are, as where a suite calls the attack."""
    return {
        "ours": our_pgd(steps, ask_first=not known_right),
        TORCHATTACKS: torchattacks_("PGD", share=0.25, steps=steps),
        FOOLBOX: foolbox_("LinfPGD", rel_stepsize=0.25, steps=steps),
        ART: art_("ProjectedGradientDescent", share=0.25, max_iter=steps, num_random_init=1),
    }


def deepfool_sides() -> dict[str, Side]:
    return {
        "ours": ours(deepfool, draw=False, ball=False),
        TORCHATTACKS: torchattacks_("DeepFool", ball=False, steps=50, overshoot=0.02),
        FOOLBOX: foolbox_("L2DeepFoolAttack", ball=False, steps=50, overshoot=0.02, candidates=10),
        ART: art_("DeepFool", ball=False, max_iter=50, epsilon=0.02, nb_grads=10),
    }


def carlini_sides(steps: int, c: float, searches: int) -> dict[str, Side]:
    knobs = {"steps": steps, "lr": 0.01, "c": c}
    foolbox_knobs = {"steps": steps, "stepsize": 0.01, "initial_const": c, "abort_early": False}
    art_knobs = {"max_iter": steps, "learning_rate": 0.01, "initial_const": c}
    sides = {
        "ours": ours(carlini_wagner, draw=False, ball=False, search_steps=searches, **knobs),
        TORCHATTACKS: torchattacks_("CW", ball=False, kappa=0, **knobs),
        FOOLBOX: foolbox_("L2CarliniWagnerAttack", ball=False, binary_search_steps=searches, **foolbox_knobs),
        ART: art_("CarliniL2Method", ball=False, binary_search_steps=searches, **art_knobs),
    }
    return sides if searches == 1 else {name: side for name, side in sides.items() if name != TORCHATTACKS}  # it has no search


def apgd_sides(steps: int) -> dict[str, Side]:
    art_knobs = {"max_iter": steps, "nb_random_init": 1, "loss_type": "cross_entropy"}
    return {
        "ours": ours(apgd, steps=steps),
        TORCHATTACKS: torchattacks_("APGD", steps=steps, loss="ce"),
        ART: art_("AutoProjectedGradientDescent", share=2.0, **art_knobs),
    }


def targeted_apgd_sides(steps: int) -> dict[str, Side]:
    return {"ours": ours(targeted_apgd, steps=steps), TORCHATTACKS: torchattacks_("APGDT", steps=steps, n_classes=10)}


def square_sides(queries: int) -> dict[str, Side]:
    return {
        "ours": ours(square, queries=queries),
        TORCHATTACKS: torchattacks_("Square", n_queries=queries),
        ART: art_("SquareAttack", max_iter=queries),
    }


def spsa_sides(steps: int) -> dict[str, Side]:
    theirs = torchattacks_("SPSA", nb_iter=steps, nb_sample=128, delta=0.01, lr=0.01)
    return {"ours": ours(spsa, steps=steps, samples=128), TORCHATTACKS: theirs}


# -- agreement -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A comparison on some networks."""

    name: str
    sides: dict[str, Side]
    nets: tuple[str, ...]
    images: int
    norms: bool = False
    fewer: dict[str, int] = field(default_factory=dict)
    """Images for those that are slow."""


def agreement(store: Store, quick: bool) -> None:
    scale = 4 if quick else 1
    three = (NATURAL, ROBUST, PAIRED)
    cases = [
        Case("PGD-20", pgd_sides(20), three, 512),
        Case("APGD-CE 100", apgd_sides(100), three, 512, fewer={ART: 128}),
        Case("APGD-T 9 x 50", targeted_apgd_sides(50), three[1:], 256),
        Case("Square 500", square_sides(500), three, 256, fewer={ART: 64}),
        Case("SPSA 10 x 128", spsa_sides(10), three[:2], 48),
        Case("DeepFool", deepfool_sides(), three, 128, norms=True, fewer={ART: 16}),
        Case("C&W c=1, 100", without(carlini_sides(100, 1.0, 1), ART), three, 64, norms=True),
        Case("C&W 5 x 100", without(carlini_sides(100, 1e-2, 5), ART), three[:2], 32, norms=True),
    ]
    print("\nagreement: robust accuracy in %, error of the difference if the images were others; fooled by one side alone")
    for net in three:
        s = store.subject(net, 512)
        print(f"{net}: epsilon {255 * s.epsilon:g}/255, without attack {s.right(s.x).double().mean():.1%}")
    row = "{:15} {:20} {:12} {:>4} {:>8} {:>8} {:>7} {:>6} {:>9}  {}"
    print(row.format("attack", "network", "peer", "n", "ours", "theirs", "diff", "SE", "alone", ""))
    for case in cases:
        if not case.norms:
            for net in case.nets:
                s = store.subject(net, max(case.images // scale, 32))
                for peer, n, mine, theirs in answers(case, s, scale):
                    a, b = (s.first(n).right(adv).double().mean().item() for adv in (mine, theirs))
                    up, down = (s.first(n).right(adv) & s.first(n).right(s.first(n).x) for adv in (mine, theirs))
                    error = ((a * (1 - a) + b * (1 - b)) / n) ** 0.5
                    alone = f"{int((~up & down).sum())}/{int((up & ~down).sum())}"
                    mark = "DISAGREE" if abs(a - b) > 2 * error else ""
                    numbers = f"{100 * a:.1f}", f"{100 * b:.1f}", f"{100 * (a - b):+.1f}", f"{100 * error:.1f}"
                    print(row.format(case.name, net, peer, n, *numbers, alone, mark), flush=True)
    print("\nagreement: L2 norms of what both fooled (median; difference of the means in %, and its error, paired)")
    print(row.format("attack", "network", "peer", "n", "ours", "theirs", "diff", "SE", "fooled %", ""))
    for case in cases:
        if case.norms:
            for net in case.nets:
                s = store.subject(net, max(case.images // scale, 16), "right")
                for peer, n, mine, theirs in answers(case, s, scale):
                    part = s.first(n)
                    hits = [~part.right(adv) & adv.flatten(1).any(1) for adv in (mine, theirs)]  # Foolbox's failures are black
                    both = hits[0] & hits[1]
                    a, b = (length(adv - part.x)[both] for adv in (mine, theirs))
                    gap, error = ((a - b).mean() / b.mean()).item(), ((a - b).std() / b.mean() / len(a) ** 0.5).item()
                    mark = "DISAGREE" if abs(gap) > max(2 * error, 1e-3) else ""
                    numbers = f"{a.median():.4f}", f"{b.median():.4f}", f"{100 * gap:+.2f}", f"{100 * error:.2f}"
                    rates = "/".join(f"{100 * hit.double().mean():.0f}" for hit in hits)
                    print(row.format(case.name, net, peer, n, *numbers, rates, mark), flush=True)


def answers(case: Case, s: Subject, scale: int):
    """(peer, number of images, what we found, what they found)."""
    mine = case.sides["ours"](s)
    for peer, side in case.sides.items():
        if peer != "ours":
            n = min(max(case.fewer.get(peer, len(s.y)) // (scale if peer in case.fewer else 1), 8), len(s.y))
            torch.manual_seed(0)
            yield peer, n, mine[:n], side(s.first(n))


def length(v: Tensor) -> Tensor:
    return v.flatten(1).double().norm(dim=1)


# -- speed -----------------------------------------------------------------------------------------------------------------


def race(sides: dict[str, Side], s: Subject, rounds: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """CPU seconds of each side in each round, in alternating order, and what it found in the last."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Tensor] = {}
    for side in sides.values():
        side(s.first(4))
    for turn in range(rounds):
        names = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
        for name in names:
            torch.manual_seed(turn)
            start = time.process_time()
            found[name] = sides[name](s)
            seconds[name].append(time.process_time() - start)
    return seconds, found


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def verdict(ratios: list[float], gate: float | None) -> str:
    if gate is None:
        return ""
    return f">= {gate:g}  {'ok' if statistics.median(ratios) >= gate else 'MISSED'}"


def without(sides: dict[str, Side], *names: str) -> dict[str, Side]:
    return {name: side for name, side in sides.items() if name not in names}


def speed(store: Store, quick: bool) -> None:
    rounds = 3 if quick else 5
    row = "{:20} {:14} {:>4} {:>7} {:12} {:>20}  {}"
    print("\nspeed: CPU time theirs / ours, median [range]; standing: share after ours, or the mean L2 norm theirs / ours")
    print(row.format("network", "attack", "n", "stand", "peer", "theirs / ours", "demanded"))

    def show(sides: dict[str, Side], s: Subject, attack: str, gates: dict[str, float], rounds: int) -> None:
        seconds, found = race(sides, s, rounds)
        for peer in sides:
            if peer != "ours":
                ratios = [theirs / mine for theirs, mine in zip(seconds[peer], seconds["ours"], strict=True)]
                stand = f"{s.right(found['ours']).double().mean():.2f}"
                if attack.startswith(("Deep", "C&W")):
                    both = ~s.right(found["ours"]) & ~s.right(found[peer])
                    a, b = (length(found[name] - s.x)[both].mean() for name in ("ours", peer))
                    stand = f"{b / a:.4f}"
                line = row.format(s.name, attack, len(s.y), stand, peer, spread(ratios), verdict(ratios, gates.get(peer)))
                print(line, flush=True)

    demanded = {
        20: {TORCHATTACKS: 1.5, FOOLBOX: 2.0, ART: 2.0},
        50: {TORCHATTACKS: 2.0},
        100: {TORCHATTACKS: 2.5},
    }
    for name, epsilon, pick in ((NATURAL, 2 / 255, "right"), (ROBUST, 8 / 255, ""), (ROBUST, 10 / 255, "right")):
        s = store.subject(name, 64 if quick else 128, pick)
        s.epsilon = epsilon
        for steps, gates in demanded.items():
            sides = pgd_sides(steps, pick == "right")
            show(sides if steps == 20 else without(sides, FOOLBOX, ART), s, f"PGD-{steps}", gates, rounds)
    for name in (NATURAL, ROBUST):
        s = store.subject(name, 64 if quick else 256, "right")
        few = s.first(32 if quick else 64)
        show(without(deepfool_sides(), FOOLBOX, ART), few, "DeepFool", {TORCHATTACKS: 4}, 3)
        show(without(deepfool_sides(), TORCHATTACKS, ART), s, "DeepFool", {FOOLBOX: 4}, 3)
        show(without(carlini_sides(50, 1.0, 1), ART), few, "C&W c=1, 50", {TORCHATTACKS: 1.5}, rounds)
    few = store.subject(NATURAL, 8, "right")
    show(without(deepfool_sides(), TORCHATTACKS, FOOLBOX), few, "DeepFool", {}, 1)
    show(without(carlini_sides(50, 1.0, 1), TORCHATTACKS, FOOLBOX), few, "C&W c=1, 50", {}, 1)
    never_slower, slower = {TORCHATTACKS: 1.0, FOOLBOX: 1.5, ART: 1.5}, 2 if quick else 3
    for name, pick in ((BIG_NATURAL, "right"), (BIG_ROBUST, "right"), (BIG_ROBUST, "stand")):
        show(pgd_sides(10, True), store.subject(name, 8 if quick else 16, pick), "PGD-10", never_slower, slower)
    s = store.subject(BIG_NATURAL, 4, "right")
    show(without(deepfool_sides(), ART), s, "DeepFool", {}, slower)  # the demand is for the small net
    show(without(carlini_sides(20, 1.0, 1), ART), s, "C&W c=1, 20", {TORCHATTACKS: 1.5}, slower)


# -- bound -----------------------------------------------------------------------------------------------------------------


def bound(store: Store, quick: bool) -> None:
    print("\nbound: GFLOP/s of the PGD loop over that of its convolutions alone (demanded: 75 %)")
    for name, count, steps in ((ROBUST, 256, 10), (BIG_ROBUST, 16, 3)):
        s = store.subject(name, count)
        layers = convolutions(s)
        shares, rates = [], []
        for turn in range((3 if quick else 5) + 1):
            alone = sum(both_passes(layer, x) for layer, x, _ in layers)
            start = time.process_time()
            with frozen(s.net, weights=True):
                pgd(s.net, s.x, s.y, epsilon=s.epsilon, steps=steps)
            loop = (time.process_time() - start) / steps
            if turn:  # the first round warms up
                shares.append(100 * alone / loop)
                rates.append((sum(flop for _, _, flop in layers) / alone / 1e9, sum(flop for _, _, flop in layers) / loop / 1e9))
        at = statistics.median(a for a, _ in rates), statistics.median(b for _, b in rates)
        print(f"{name:20} batch {count:3}  convolutions {at[0]:.0f} GFLOP/s, loop {at[1]:.0f}: {spread(shares)} %  "
              f"{verdict(shares, 75)}", flush=True)  # fmt: skip


def convolutions(s: Subject) -> list[tuple[nn.Conv2d, Tensor, float]]:
    """Each convolution with an input of its real shape and order, and its operations forward and by the input."""
    found: list[tuple[nn.Conv2d, Tensor, float]] = []

    def note(layer: nn.Conv2d, args: tuple[Tensor], out: Tensor) -> None:
        flop = 2 * 2 * out.numel() * layer.weight[0].numel()
        found.append((layer, torch.randn_like(args[0]), flop))

    hooks = [layer.register_forward_hook(note) for layer in s.net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        s.net(s.x)
    for hook in hooks:
        hook.remove()
    return found


def both_passes(layer: nn.Conv2d, x: Tensor) -> float:
    x = x.detach().requires_grad_()
    with frozen(layer, weights=True):
        start = time.process_time()
        out = layer(x)
        torch.autograd.grad(out, x, torch.ones_like(out))
        return time.process_time() - start


# -- count -----------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Counts the images that go through with a gradient."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.images = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x) * x.requires_grad
        return self.net(x)


def count(store: Store, quick: bool) -> None:
    print("\ncount: image-steps against 1.15 x standing x steps + 8 x fallen; verdicts against the plain loop, same start")
    for name in (NATURAL, ROBUST, PAIRED):
        s = store.subject(name, 64 if quick else 256, "right")
        for steps in (20, 50, 100):
            spent, mine = steps_of(s, steps, 1)
            stands = int(mine.sum())
            limit = 1.15 * stands * steps + 8 * (len(s.y) - stands)
            final, ever = plain(s, steps)
            differ = f"differs from plain: {int((mine != ever).sum())} (its last iterate alone: {int((mine != final).sum())})"
            print(f"{name:20} PGD-{steps:<4} n {len(s.y)}  stand {stands / len(s.y):.2f}  {spent:7,} of {limit:9,.0f} "
                  f"({spent / limit:.2f})  {'ok    ' if spent <= limit else 'MISSED'}  {differ}", flush=True)  # fmt: skip
        before, left, limit = 0, len(s.y), 0.0
        for restarts in range(1, 6):
            spent, mine = steps_of(s, 20, restarts)
            stands = int(mine.sum())
            limit += 1.15 * stands * 20 + 8 * (left - stands)
            before, left = spent, stands
        print(f"{name:20} PGD-20 x 5 restarts  stand {left / len(s.y):.2f}  {before:7,} of {limit:9,.0f} ({before / limit:.2f})"
              f"  {'ok' if before <= limit else 'MISSED'}", flush=True)  # fmt: skip


def steps_of(s: Subject, steps: int, restarts: int) -> tuple[int, Tensor]:
    """Image-steps spent, and which images stand, [N] bool."""
    counting = Counting(s.net)
    adv = our_pgd(steps, restarts=restarts)(with_net(s, counting))
    return counting.images, s.right(adv)


def with_net(s: Subject, net: nn.Module) -> Subject:
    other = copy.copy(s)
    other.net = net
    return other


def plain(s: Subject, steps: int) -> tuple[Tensor, Tensor]:
    """PGD as in the paper, from our random start: who is right at the last iterate, and who is so at all of them."""
    finals, evers = [], []
    for rows in torch.arange(len(s.y)).split(BATCH):
        x, y = s.x[rows], s.y[rows]
        adv = project(x + draw_offset(rng.per_image(0, "attack", ids=rows), x.shape, s.epsilon, "linf"), x, s.epsilon, "linf")
        ever = torch.ones_like(y, dtype=torch.bool)
        for _ in range(steps):
            adv = adv.detach().requires_grad_()
            logits = s.net(adv)
            ever &= logits.argmax(1) == y
            (slope,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), adv)
            adv = adv.detach() + s.epsilon / 4 * slope.sign()
            adv = torch.minimum(torch.maximum(adv, x - s.epsilon), x + s.epsilon).clamp(0, 1)
        final = predict(s.net, adv).argmax(1) == y
        finals.append(final)
        evers.append(ever & final)
    return torch.cat(finals), torch.cat(evers)


# -- strong ----------------------------------------------------------------------------------------------------------------


def auto_attack(s: Subject) -> Tensor:
    """AutoAttack's standard version out of torchattacks' parts, with the paper's numbers of steps."""
    import torchattacks as ta

    net, eps = s.usual, s.epsilon
    parts = [
        ta.APGD(net, eps=eps, steps=100, loss="ce"),
        ta.APGDT(net, eps=eps, steps=100, n_classes=10),
        ta.FAB(net, eps=eps, steps=100, multi_targeted=True, n_classes=10),
        ta.Square(net, eps=eps, n_queries=5000),
    ]
    return batches(s, ta.MultiAttack(parts))


def strong(store: Store, quick: bool) -> None:
    print("\nstrong: robust accuracy in %, suite `strong` and AutoAttack standard (demanded: at most 0.5 points above)")
    for name, epsilon in ((NATURAL, 1 / 255), (ROBUST, 8 / 255), (PAIRED, 8 / 255)):
        s = store.subject(name, 32 if quick else 200)
        s.epsilon = epsilon
        start = time.process_time()
        mine = attacked(s.net, s.x, s.y, SUITES["strong"](20, 1), epsilon=epsilon).worst.double().mean().item()
        middle = time.process_time()
        theirs = s.right(auto_attack(s)).double().mean().item()
        took = f"{middle - start:.0f} and {time.process_time() - middle:.0f} CPU s"
        print(f"{name:20} eps {255 * epsilon:g}/255  n {len(s.y)}  ours {100 * mine:.1f}  theirs {100 * theirs:.1f}  "
              f"{'ok' if mine <= theirs + 0.005 else 'MISSED'}  ({took})", flush=True)  # fmt: skip


SECTIONS: dict[str, Callable[[Store, bool], None]] = {
    "agreement": agreement, "speed": speed, "bound": bound, "count": count, "strong": strong,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, under five minutes")
    parser.add_argument("--data", default=ROOT / "../shared/data/cifar10-jpeg", type=Path, help="train.parquet, test.parquet")
    parser.add_argument("--cache", default=Path(tempfile.gettempdir()) / "trilemma-bench-attacks", type=Path)
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    warnings.filterwarnings("ignore")
    memory.keep_freed()
    torch.set_num_threads(1)
    packages = ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{os.cpu_count()} CPU cores ({platform.machine()}), {versions}, load {os.getloadavg()[0]:.1f}", flush=True)
    try:
        store = Store(args.cache, data.load(f"parquet:{args.data}", pool=32000))
    except InputError as error:
        raise SystemExit(f"{error}; --data names the folder of CIFAR-10") from None
    for name in TRAININGS:
        store.bound(name)
    for name in args.sections or SECTIONS:
        start, cpu = time.perf_counter(), time.process_time()
        SECTIONS[name](store, args.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
