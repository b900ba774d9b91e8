"""The tables and figures of the sparsity paper.

    python studies/papers/sparsity.py table1 --dataset parquet:DIR  # needs the photographs

Results are in docs/papers/sparsity.md.
"""

from collections.abc import Mapping
from typing import Any

from core.evaluation.attribution import attribution_distances
from core.evaluation.retraining import Retraining, adversarial_retraining
from core.recipes import RECIPES, Recipe
from core.small_recipes import SMALL
from core.space import Value
from trainables.commands.paper import main
from trainables.cost.passes import ONE, STEP, Passes, Sizes
from trainables.papers import sparsity as drawn
from trainables.papers.item import Item, Measurement, Paper, Preset

BASE: Recipe = {"regularizer": "none"} | {k: v for k, v in RECIPES["l1"].items() if not k.startswith("regularizer")}
PENALTIES = {"Base": BASE, "L1": RECIPES["l1"], "L2": RECIPES["l2"], "Elastic Net": RECIPES["elastic_net"]}
WEAKER: dict[str, Recipe] = {"Base": {}, "L1": SMALL["l1"], "L2": SMALL["l2"], "Elastic Net": SMALL["elastic_net"]}
"""Strengths in dev, for small networks; the paper's are those of `PENALTIES`."""
NETS: dict[str, Recipe] = {"ResNet": {"net": "resnet50"}, "MobileNet": {"net": "mobilenet"}, "VGG16": {"net": "vgg16"}}
SMALL_NETS: dict[str, Recipe] = {
    "ResNet": {"net": "resnet10", "net.width": 8}, "MobileNet": {"net": "mobilenet", "net.width": 0.25, "optimizer.lr": 5e-3},
    "VGG16": {"net": "vgg16", "net.width": 8, "net.dropout": 0.0},
}  # fmt: skip
NETWORKS = {f"{net}, {penalty}": NETS[net] | PENALTIES[penalty] for net in NETS for penalty in PENALTIES}
LAMBDAS = {"0": 0.0, "1e-7": 1e-7, "1e-6": 1e-6, "1e-5": 1e-5, "1e-4": 1e-4}
JUDGE: Recipe = {"judge.part": "test", "judge.suite": "none", "judge.attacks": "fgsm", "judge.images": 500}
PAPER_5000: Recipe = {
    "dataset": "cifar10", "split": "official", "split.val": 1000, "split.shadow": 44_000, "normalize": False, "epochs": 10, **JUDGE,
}  # fmt: skip
"""5,000 members, as in the toolbox's example; `shadow` is what is left of the training file."""


def small(members: int, val: int, test: int, **settings: Value) -> Recipe:
    """Settings of a dev preset with so many images."""
    sizes = {"split.members": members, "split.val": val, "split.test": test, "split.shadow": 0}
    return {"dataset": "cifar10", "pool": members + val + test, "split": "stratified", **sizes, **settings, **JUDGE}


def small_rows(nets: Mapping[str, Recipe] = SMALL_NETS) -> dict[str, Recipe]:
    """The rows of a dev preset: small networks and weaker penalties."""
    return {f"{net}, {penalty}": own | WEAKER[penalty] for net, own in nets.items() for penalty in PENALTIES}


def retraining_passes(sizes: Sizes, settings: Mapping[str, Value]) -> Passes:
    """Passes of the protocol: retraining, and crafting. DeepFool, which ends once an image is misclassified, counts as 3 steps."""
    protocol = Retraining(**settings)  # pyright: ignore[reportArgumentType]
    test = min(protocol.test_images or sizes.judged, sizes.judged)
    steps = {"fgsm": STEP, "pgd": STEP * protocol.steps, "deepfool": Passes(1, 9) * 3}
    attacks = protocol.attacks.split("+")
    crafting = sum((steps[name] for name in attacks), start=Passes())
    return crafting * (sizes.members + 2 * test) + STEP * (2 * sizes.members * protocol.epochs * len(attacks))


def attribution_passes(sizes: Sizes, settings: Mapping[str, Value]) -> Passes:
    """Passes of the maps of 32x32 images: all positions of both patches, and Grad-CAM twice."""
    return (ONE * (15**2 + 16**2 + 1) + STEP * 2) * min(int(settings.get("count", 1000)), sizes.judged)


def published() -> dict[str, dict[str, float]]:
    """Table 1, in percent."""
    numbers = {
        "ResNet": "19.60 23.80 18.00 34.20 16.00 28.40 25.20 11.40 13.20 33.80 37.40 38.20",
        "MobileNet": "11.40 22.20 22.00 27.20 22.60 28.00 38.40 30.20 25.40 25.40 27.00 19.40",
        "VGG16": "8.40 7.60 1.60 10.80 8.00 8.00 11.30 10.20 8.00 11.40 11.40 10.80",
    }
    flat = iter([float(value) for line in numbers.values() for value in line.split()])
    return {row: {attack: next(flat) for attack in ("DeepFool", "FGSM", "PGD")} for row in NETWORKS}


SSD = {"Base": (26.31, 24.53), "L1": (18.51, 15.13), "L2": (18.62, 15.12), "Elastic Net": (20.92, 13.96)}
SD = {"Base": (27.19, 34.19), "L1": (15.28, 24.95), "L2": (13.48, 20.92), "Elastic Net": (17.83, 22.51)}
TABLE2 = {"Patch": "ssd/patch", "SD": "ssd_sd/patch", "Grad-CAM": "ssd/grad_cam_blur", "SD of Grad-CAM": "ssd_sd/grad_cam_blur"}
STRENGTHS = "L1 1e-4 and L2 1e-3 instead of 0.01"
SMALLER_VGG = f"dev has VGG16 of width 8, 800 members, 12 epochs at lr 2e-3, {STRENGTHS}"
ATTACKS = ("deepfool", "fgsm", "pgd")
RETRAINING = Measurement(function=adversarial_retraining, passes=retraining_passes)
ATTRIBUTION = Measurement(function=attribution_distances, passes=attribution_passes)
SMALL_TABLE1 = small(600, 100, 200, epochs=6, batch_size=16, **{"optimizer.lr": 2e-3})
SMALL_VGG = small(800, 200, 500, epochs=12, batch_size=32, **{"optimizer.lr": 2e-3})
VGG = {row: own for row, own in NETWORKS.items() if row.startswith("VGG16")}
VGG_ROWS = small_rows({"VGG16": SMALL_NETS["VGG16"]})


def table1(
    name: str, title: str, columns: Mapping[str, str], dev: Recipe, paper: Recipe, differs: str, *,
    nets: Mapping[str, Recipe] = SMALL_NETS, **fields: Any,
) -> Item:  # fmt: skip
    """An item that shows accuracies of the protocol, in dev for the networks `nets`."""
    presets = {
        "dev": Preset(config=SMALL_TABLE1, rows=small_rows(nets), settings={"epochs": 2, "test_images": 0, **dev}),
        "paper": Preset(config=PAPER_5000, settings=paper),
    }
    return Item(
        name=name, title=title, rows=NETWORKS, presets=presets, columns=columns, percent=tuple(columns), measurement=RETRAINING,
        differs=f"{differs}. dev has 600 members, 6 + 2 epochs at lr 2e-3 (MobileNet 5e-3), 5 steps of PGD and DeepFool, "
                f"ResNet-10 of width 8, MobileNet of width 1/4, VGG16 of width 8 and {STRENGTHS}.",
        **fields,
    )  # fmt: skip


def maps(name: str, title: str, pair: str, draw: Any) -> Item:
    """An item that shows maps of one image."""
    return Item(
        name=name, title=title, rows=VGG, measurement=ATTRIBUTION, draw=draw,
        presets={
            "dev": Preset(config=SMALL_VGG, rows=VGG_ROWS, settings={"count": 60}),
            "paper": Preset(config=PAPER_5000),
        },
        columns={"SSD of the image": f"shown/ssd/{pair}", "mean SSD": f"ssd/{pair}"},
        differs=f"The paper names neither the network nor the image. {SMALLER_VGG}.",
    )  # fmt: skip


STATIC = {"DeepFool": "static/deepfool", "FGSM": "static/fgsm", "PGD": "static/pgd"}
TOOLBOX = (
    "Numbers of images, optimiser, epochs and the attacks' settings are those of the toolbox and its example, because the paper "
    "states none; PGD is untargeted as in Eq. 4, not targeted as in the text; DeepFool compares logits, the toolbox's probabilities"
)
PAPER = Paper(
    name="sparsity",
    title="Schwartz, Alparslan and Kim 2020, Regularization and Sparsity for Adversarial Robustness and Stable Attribution",
    items=[
        Item(
            name="figure1", title="Activation density and training accuracy over the penalty on activations",
            rows={f"lambda {name}": {**RECIPES["activation_sparsity"], "net": "single_layer", "regularizer.lambda": value}
                  for name, value in LAMBDAS.items()},
            presets={
                "dev": Preset(config=small(1500, 200, 500, epochs=8, batch_size=64), seeds=3),
                "paper": Preset(config={"dataset": "cifar10", "split": "official", **JUDGE}, seeds=3),
            },
            columns={"density": "density", "training accuracy": "train_accuracy", "test accuracy": "accuracy"},
            percent=("training accuracy", "test accuracy"),
            differs="The paper states neither optimiser nor epochs (ours: Adam 1e-3, 20); the cross-entropy of its Eq. 5 is "
                    "binary, ours is that of the softmax. dev has 1,500 members and 8 epochs.",
            draw=drawn.density,
        ),
        table1(
            "table1", "Accuracy on adversarial images after retraining on such images: crafted before it, and after it (white-box)",
            {"before": "accuracy", **STATIC, **{f"{name} white-box": f"whitebox/{attack}"
                                                for name, attack in zip(STATIC, ATTACKS, strict=True)}},
            {"steps": 5, "deepfool_steps": 5}, {}, TOOLBOX, published=published(),
        ),
        table1(
            "table1_protocols", "The attacks of Table 1 without retraining, and the retrained networks on clean images",
            {"before": "accuracy", **{f"{name}, not retrained": f"noretrain/{attack}"
                                      for name, attack in zip(STATIC, ATTACKS, strict=True)},
             **{f"clean after {name}": f"clean/{attack}" for name, attack in zip(STATIC, ATTACKS, strict=True)}},
            {"steps": 5, "deepfool_steps": 5}, {}, TOOLBOX,
        ),
        table1(
            "table1_8_255", "Table 1 with radius 8/255 instead of the toolbox's 0.3; DeepFool has no radius",
            {"before": "accuracy", "FGSM, not retrained": "noretrain/fgsm", "FGSM": "static/fgsm",
             "FGSM white-box": "whitebox/fgsm", "PGD, not retrained": "noretrain/pgd", "PGD": "static/pgd",
             "PGD white-box": "whitebox/pgd"},
            {"attacks": "fgsm+pgd", "epsilon": 8 / 255, "step_size": 2 / 255, "steps": 5},
            {"attacks": "fgsm+pgd", "epsilon": 8 / 255, "step_size": 2 / 255, "steps": 20},
            "The paper has no such table; dev has the ResNet alone", nets={"ResNet": SMALL_NETS["ResNet"]},
        ),
        table1(
            "figure2", "Table 1 as bars", STATIC, {"steps": 5, "deepfool_steps": 5}, {}, TOOLBOX, published=published(),
            draw=drawn.accuracies,
        ),
        Item(
            name="figure3", title="Training and validation curves of VGG16", rows=VGG, draw=drawn.training,
            presets={
                "dev": Preset(config=SMALL_VGG, rows=VGG_ROWS),
                "paper": Preset(config={**PAPER_5000, "epochs": 20}),
            },
            columns={"training accuracy": "train_accuracy", "test accuracy": "accuracy"},
            percent=("training accuracy", "test accuracy"),
            differs=f"The paper states neither epochs nor optimiser (ours: 20, Adam 1e-3). {SMALLER_VGG}.",
        ),
        Item(
            name="table2", title="Sum of squared differences of attribution maps that should be equal", rows=NETWORKS,
            presets={
                "dev": Preset(config=SMALL_VGG, rows=VGG_ROWS, seeds=2, settings={"count": 60}),
                "paper": Preset(config=PAPER_5000),
            },
            columns={**TABLE2, "rank correlation, patch": "rank/patch", "rank correlation, Grad-CAM": "rank/grad_cam_blur",
                     "constant, Grad-CAM": "constant/grad_cam_blur"},
            published={row: dict(zip(TABLE2, (SSD[p][0], SD[p][0], SSD[p][1], SD[p][1]), strict=True))
                       for row in NETWORKS for p in PENALTIES if row.endswith(f", {p}")},
            measurement=ATTRIBUTION,
            differs="The paper does not name the network, so its numbers are beside each, nor the scale of its maps (ours: 0 to "
                    f"1). {SMALLER_VGG}, and 60 images instead of 1,000.",
        ),
        maps("figure4", "Maps by patches of 4 and of 2 pixels", "patch", drawn.patches),
        maps("figure5", "Grad-CAM of an image and of the image blurred", "grad_cam_blur", drawn.blur),
    ],
)  # fmt: skip

if __name__ == "__main__":
    main(PAPER)
