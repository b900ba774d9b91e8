"""The figures of the inversion paper, and the accuracies of the networks that it attacks.

    python studies/papers/inversion.py figure3 --dataset parquet:DIR  # needs the photographs

Figure 1 is a result of earlier work on faces and Figure 2 a diagram. Results are in docs/papers/inversion.md.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from core.evaluation.reconstruction import generate, radius_and_leak, reconstruct
from core.recipes import RECIPES, Recipe
from core.space import Value
from trainables.commands.paper import main
from trainables.cost.passes import DREAM_STEPS, ONE, STEP, Passes, Sizes
from trainables.papers import reconstructions as drawn
from trainables.papers.item import Item, Measurement, Paper, Preset

CLASSES, BIRD, HORSE = 10, 2, 7
"""Number of classes of CIFAR-10, and two of them."""
VGG, RES, ATM, ATM10 = "TTM-VGG", "TTM-Res", "ATM-Res", "ATM-Res10"
ROWS: dict[str, Recipe] = {
    VGG: RECIPES["ttm_vgg"], RES: RECIPES["ttm_res"], ATM: RECIPES["atm_res"], ATM10: RECIPES["atm_res10"],
}  # fmt: skip
OTHER = "another TTM-Res"
"""A second normally trained network, under which the reconstructions are tested too."""
WEIGHTS = ("0", "0.1", "1", "10")
"""Weights of the target's loss in that of the AC-GAN's generator."""
PGD = "PGD-10, 10/255"
JUDGE: Recipe = {
    "judge.part": "test", "judge.suite": "none", "judge.attacks": "pgd:steps=10:step_size=2/255", "judge.epsilon": 10 / 255,
}  # fmt: skip
FULL: Recipe = {"dataset": "cifar10", "split": "official", **JUDGE}
SMALL: Recipe = {
    "dataset": "cifar10", "pool": 4000, "split": "stratified", "split.members": 2000, "split.val": 1000, "split.test": 1000,
    "split.shadow": 0, "batch_size": 64, "epochs": 8, **JUDGE, "judge.images": 200,
}  # fmt: skip
SMALL_RES: Recipe = {
    "net": "wrn", "net.depth": 10, "net.widen": 1, "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 2e-4, "optimizer.schedule": "cosine", "augmentation": "none",
}  # fmt: skip
SMALL_ATM: Recipe = {
    **SMALL_RES, "perturbation": "pgd", "perturbation.epsilon": 10 / 255, "perturbation.steps": 3,
    "perturbation.step_size": 5 / 255, "perturbation.alpha": 0.0,
}  # fmt: skip
SMALL_ROWS: dict[str, Recipe] = {
    VGG: {"net": "convnet", "net.width": 32}, RES: SMALL_RES, ATM: SMALL_ATM, ATM10: {**SMALL_ATM, "optimizer.stop_at": 0.25},
}  # fmt: skip
SMALLER = (
    "dev has 2,000 members of a pool of 4,000, 8 epochs, WRN-10-1 and a small network without shortcuts in place of VGG16, and "
    "adversarial training in 3 steps."
)
LR = "The paper gives no lr of the ascent: ours is 0.1 in dev and 0.01 in paper, in units of [0, 1] images"
ASCENT: dict[str, dict[str, Value]] = {"dev": {"iterations": 500, "lr": 0.1}, "paper": {"iterations": 10_000, "lr": 0.01}}
"""Settings of the gradient ascent by preset."""
NEIGHBOURS = 5
"""Nearest members of each reconstruction that Figure 10 shows; Figure 3 has the same measurement."""
DREAM: dict[str, dict[str, Value]] = {"dev": {"attack": "deepdream"}, "paper": {"attack": "deepdream"}}
ONE_CLASS: dict[str, dict[str, Value]] = {"dev": {"classes": "1", "restarts": 9}, "paper": {"classes": str(BIRD), "restarts": 9}}
BIRDS = "The paper does not name the network; its class is bird, and that of dev automobile, which small networks recognise"
IMAGES = {
    "iterations to the class": "iterations", "recognised": "success", "logit": "logit", "training images' logit": "training_logit",
    "cosine to the nearest member": "cosine", "L2 to it (RMS of 255)": "rmse_255",
}  # fmt: skip
"""Columns of the items that show reconstructions."""


def passes(sizes: Sizes, settings: Mapping[str, Value]) -> Passes:
    """Passes of `reconstruct`: those of the attack, and of the searches for the nearest members."""
    classes = str(settings["classes"]).count(",") + 1 if settings.get("classes") else CLASSES
    steps = DREAM_STEPS if settings.get("attack") == "deepdream" else int(settings["iterations"])
    searches = 2 + int(settings.get("neighbours", 1))
    return STEP * (steps * classes * int(settings.get("restarts", 1))) + ONE * (searches * sizes.members + sizes.judged)


ATTACK = Measurement(function=reconstruct, passes=passes)


def presets(rows: Sequence[str], *settings: Mapping[str, Mapping[str, Value]], **further: Value) -> dict[str, Preset]:
    """Both presets of an item with these rows, the settings of their measurement, and further ones of both."""
    dev, paper = ({name: value for part in settings for name, value in part[preset].items()} for preset in ("dev", "paper"))
    return {
        "dev": Preset(config=SMALL, rows={row: SMALL_ROWS[row] for row in rows}, settings={**dev, **further}),
        "paper": Preset(config=FULL, settings={**paper, **further}),
    }


def item(name: str, title: str, rows: Sequence[str], own: Mapping[str, Preset], differs: str, **fields: Any) -> Item:
    """An item; by default its measurement are reconstructions, which are drawn."""
    fields = {"columns": IMAGES, "draw": drawn.reconstructions, "measurement": ATTACK} | fields
    percent = [heading for heading, value in fields["columns"].items() if value.startswith("success") or "accuracy" in value]
    settings, both = {row: ROWS[row] for row in rows}, f"{differs}. {SMALLER}"
    return Item(name=name, title=title, rows=settings, presets=own, differs=both, percent=percent, **fields)


TARGETS, RESNETS = (VGG, RES, ATM), (RES, ATM)
BETWEEN = {**IMAGES, "L2 between two images": "spread"}
L2 = "L2 to the nearest member (RMS of 255)"

PAPER = Paper(
    name="inversion",
    title="Mejia et al. 2019, Robust or Private? Adversarial Training Makes Models More Vulnerable to Privacy Attacks",
    items=[
        item(
            "targets", "Accuracy of the target networks (Section 2.1)", TARGETS, presets(TARGETS),
            "The paper states neither its split nor augmentation (ours: none for TTM, crop and flip for ATM), nor on which images "
            "ATM's training accuracy is measured (ours: unperturbed); its VGG16 has no batch norm",
            columns={"test": "accuracy", "training": "train_accuracy", PGD: "robust_accuracy"},
            measurement=None, draw=None,
            published={VGG: {"test": 82.2, "training": 99.2}, RES: {"test": 84.9, "training": 95.7},
                       ATM: {"test": 78.5, "training": 99.7}},
        ),
        item(
            "figure3", "Reconstructions of the ten classes by gradient ascent from grey", TARGETS,
            presets(TARGETS, ASCENT, neighbours=NEIGHBOURS), LR,
        ),
        item(
            "figure4", "Logit of a class during the ascent", RESNETS,
            {
                "dev": Preset(config={**SMALL, **SMALL_RES}, rows={RES: {}, ATM: SMALL_ATM}, settings=ASCENT["dev"]),
                "paper": Preset(
                    config={**FULL, **ROWS[RES]}, rows={RES: {}, ATM: ROWS[ATM]},
                    settings={**ASCENT["paper"], "classes": str(BIRD)},
                ),
            },
            f"{LR}; the paper's class is bird, and dev takes all ten",
            measurement=Measurement(function=reconstruct, sources={OTHER: {}}, passes=passes), draw=drawn.logits,
            columns={
                "iterations to the class": "iterations", "logit": "logit", "training images' logit": "training_logit",
                f"logit under {OTHER}": f"logit/{OTHER}", "training images' logit under it": f"training_logit/{OTHER}",
            },
            published={
                RES: {"iterations to the class": 3, "logit": 150, "training images' logit": 11},
                ATM: {"iterations to the class": 1136, "logit": 44, "training images' logit": 7, f"logit under {OTHER}": 21},
            },
        ),
        item(
            "figure5", "Ascent from training images of cats", RESNETS,
            presets(RESNETS, ASCENT, classes="3", restarts=6, start="member"), f"{LR}; the paper shows one image",
            columns={"logit": "logit", "training images' logit": "training_logit", "L2 from the training image": "moved"},
            draw=drawn.from_members,
        ),
        item(
            "figure6", "Reconstructions of the ten classes by DeepDream from grey", TARGETS, presets(TARGETS, DREAM),
            "The paper gives neither the step size (ours: 1.5/255) nor the weight of the norm penalty (ours: 0.001)",
        ),
        item(
            "figure7", "Images of the ten classes by AC-GANs with different weights of the target", RESNETS,
            presets(RESNETS, {"dev": {"width": 8, "epochs": 20, "gan_images": 500}, "paper": {}}, weights=",".join(WEIGHTS)),
            "The paper gives neither weights, widths nor epochs (ours: width 64, 200 epochs; in dev width 8, 20 epochs, 500 real "
            "images), nor the network that is attacked",
            measurement=Measurement(function=generate), draw=drawn.generated,
            columns={f"recognised, w={w}": f"success/{w}" for w in WEIGHTS} | {f"leak, w={w}": f"leak/{w}" for w in WEIGHTS},
        ),
        item(
            "figure8", "Nine images of a class by gradient ascent from random inputs", RESNETS,
            presets(RESNETS, ONE_CLASS, ASCENT, start="grey_noise"),
            f"{LR}, and its noise: ours has a standard deviation of 0.1 about grey. {BIRDS}", columns=BETWEEN,
        ),
        item(
            "figure9", "Nine images of a class by DeepDream from random inputs", RESNETS,
            presets(RESNETS, ONE_CLASS, DREAM, start="noise"), f"The paper does not state the noise: ours is uniform. {BIRDS}",
            columns=BETWEEN,
        ),
        item(
            "figure10", "Reconstructions and their nearest members by the network's last feature maps", TARGETS,
            presets(TARGETS, ASCENT, neighbours=NEIGHBOURS),
            f"{LR}. The paper does not state the scale of its L2; the averages are over all ten classes",
            draw=partial(drawn.nearest_members, shown=[*((row, BIRD) for row in TARGETS), (ATM, HORSE)]),
            columns={"cosine": "cosine", L2: "rmse_255", "L2, [0, 1]": "l2", "L2, standardised": "l2_normalised"},
            published={VGG: {"cosine": 0.99, L2: 132.5}, RES: {"cosine": 0.78, L2: 97.1}, ATM: {"cosine": 0.85, L2: 82.4}},
        ),
        item(
            "figure11", "Adversarial radius against privacy loss", tuple(ROWS),
            presets(tuple(ROWS), {
                "dev": {**ASCENT["dev"], "radius_images": 100, "radius_steps": 500},
                "paper": {**ASCENT["paper"], "radius_images": 500, "radius_steps": 2000},
            }),
            f"{LR}. The figure's numbers are not published; held-out images are the control that the paper lacks",
            measurement=Measurement(function=radius_and_leak, passes=passes), draw=drawn.radius_and_leak,
            columns={"adversarial radius": "radius", L2: "rmse_255", "L2 to the nearest member of the class": "l2_member",
                     "L2 to the nearest held-out image": "l2_held_out", "leak": "leak", "p-value of the leak": "leak_p"},
        ),
    ],
)  # fmt: skip

if __name__ == "__main__":
    main(PAPER)
