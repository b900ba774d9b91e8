"""The tables and figures of the GAT paper.

    python studies/papers/gat.py table2 --dataset parquet:DIR  # needs the photographs

Figure 1 is a diagram. Results are in docs/papers/gat.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from core import nets
from core.evaluation.perturbation_power import direct_curve, generator_curve, indirect_curve
from core.nets.layers import layers_of
from core.perturbations.gat import build_generator
from core.recipes import RECIPES, Recipe
from core.space import Value
from trainables.commands.paper import main
from trainables.cost.passes import STEP, Passes, Sizes
from trainables.papers import figures
from trainables.papers.item import Item, Listing, Measurement, Paper, Preset, Results

Settings = Mapping[str, Value]
BASELINE, DROPOUT, RANDOM, GAT, DROPOUT_GAT = "Baseline", "Dropout", "Random perturbation", "Adv. training (GAT)", "Dropout + GAT"
FG_LINF, FG_L2 = "Adv. training (FG, Linf)", "Adv. training (FG, L2)"
TRAINING: Recipe = {name: value for name, value in RECIPES["dropout"].items() if name != "net.dropout"}
"""The baseline's network and training, which all rows share."""
ROWS: dict[str, Recipe] = {
    BASELINE: TRAINING, DROPOUT: RECIPES["dropout"], RANDOM: RECIPES["noise"], FG_LINF: RECIPES["fgsm_linf"],
    FG_L2: RECIPES["fgsm_l2"], GAT: RECIPES["gat"], DROPOUT_GAT: RECIPES["gat_dropout"],
}  # fmt: skip
JUDGE: Recipe = {
    "judge.part": "test", "judge.norm": "l2", "judge.epsilon": 0.5, "judge.suite": "none", "judge.attacks": "pgd:steps=20",
    "judge.images": 0,
}  # fmt: skip
FULL: Recipe = {
    **TRAINING, **JUDGE, "split": "official", "split.val": 5000, "selection": "accuracy", "selection.images": 2500,
    "selection.patience": 20,
}  # fmt: skip
SMALL: Recipe = {
    **TRAINING, **JUDGE, "pool": 2000, "split": "stratified", "split.members": 800, "split.val": 200, "split.test": 1000,
    "split.shadow": 0, "net.width": 16, "normalize": True, "epochs": 20, "batch_size": 40, "optimizer.lr": 4e-3,
}  # fmt: skip
SMALL_GAT: Recipe = {
    "perturbation.lr_g": 3e-3, "perturbation.delta_scale": "batch_std", "perturbation.width": 8, "perturbation.c_g": 0.03,
}  # fmt: skip
"""Settings with which a generator learns within few steps."""
SMALL_ROWS: dict[str, Recipe] = {row: {} for row in ROWS} | {
    FG_LINF: {"perturbation.epsilon": 2 / 255}, GAT: SMALL_GAT, DROPOUT_GAT: SMALL_GAT,
}  # fmt: skip
C_G = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Weights of the perturbation's square in the generator's loss for Figure 2."""
FROZEN: dict[str, Value] = {"lr_g": 3e-3, "width": 12, "epochs": 15, "batch_size": 20}
"""Training of a generator against a small frozen network; width 6 is too narrow to pass on three signed channels well."""
GENERATOR = 4
"""Operations of the generator of width 48 on an image, as a multiple of the classifier's: 108 million products to 29 million."""
UNSTATED = (
    "The paper states neither c_g, batch size, epochs, the length of the other perturbations nor dropout (ours); with its lr_g of "
    "1e-6, which paper keeps, the generator learns very slowly. paper stops early by half of the validation images, which each "
    "seed redraws"
)
SMALLER = "dev has 800 members, 20 epochs, a third of the classifier's width, standardised input and lr 4e-3; its generators have "
SMALL_TRAINERS = f"{SMALLER}width 8, lr_g=3e-3, delta_scale=batch_std and c_g=0.03."
ATTACKED = "PGD-20, L2 0.5"


def architectures() -> list[dict[str, Value]]:
    """The layers of the classifiers and of the generator, with a last row for all of them."""
    with torch.device("meta"):
        classifiers = {f"classifier, {c} classes": nets.build(nets.NETS["allconv"](), (3, 32, 32), c) for c in (10, 100)}
        networks = {**classifiers, "generator": build_generator(3)}
    rows: list[dict[str, Value]] = []
    for name, net in networks.items():
        layers = layers_of(net, (3, 32, 32))
        rows += [
            {"network": name, "layer": own.name, "output": "x".join(map(str, own.output)), "weights": own.weights} for own in layers
        ]
        output = rows[-1]["output"]
        rows.append({"network": name, "layer": "all layers", "output": output, "weights": sum(own.weights for own in layers)})
    return rows


def presets(dataset: str, rows: Sequence[str], seeds: int, small: Settings, full: Settings) -> dict[str, Preset]:
    """Both presets of an item with these rows, the paper's number of seeds, and the settings of their measurements."""
    own = {row: SMALL_ROWS[row] for row in rows}
    return {
        "dev": Preset(config={"dataset": dataset, **SMALL}, seeds=2, rows=own, settings=small),
        "paper": Preset(config={"dataset": dataset, **FULL}, seeds=seeds, settings=full),
    }


def table2(name: str, dataset: str, title: str, accuracies: Sequence[float]) -> Item:
    """A half of Table 2; the accuracies are in the order of the rows."""
    columns = {"test": "accuracy", "training": "train_accuracy", ATTACKED: "robust_accuracy/pgd_steps_20"}
    return Item(
        name=name, title=f"Test accuracy for {title}", rows=ROWS, presets=presets(dataset, list(ROWS), 50, {}, {}),
        columns=columns, percent=list(columns), differs=f"{UNSTATED}. {SMALL_TRAINERS}",
        published={row: {"test": value} for row, value in zip(ROWS, accuracies, strict=True)},
    )  # fmt: skip


def passes(sizes: Sizes, settings: Settings) -> Passes:
    """Upper bound for Figure 2: for each c_g, image and epoch, Delta, the perturbed image, and the generator's own passes."""
    epochs = int(settings.get("epochs", 200))
    return STEP * ((2 + GENERATOR) * sizes.members * epochs * len(C_G))


def draw_generators(results: Results) -> Any:
    """Accuracy over power under the generators and under fast gradient images."""
    figure, (axis,) = figures.panels(1, width=5)
    for networks in results.values():
        power, clean = figures.series(networks, "power")[0], figures.number(networks, "accuracy")
        for index, (name, label) in enumerate({"generator": "GAT", "fg_l2": "FG, L2", "fg_linf": "FG, Linf"}.items()):
            mean, half = figures.series(networks, f"accuracy/{name}")
            figures.curve(axis, [*power, 0.0], [*mean, clean[0]], [*half, clean[1]], label, index)
    figures.labelled(axis, "perturbation power (mean L2 norm)", "accuracy")
    figures.legend(figure, axis)
    return figure


def draw_curves(results: Results) -> Any:
    """Accuracy of each network over the power of the images."""
    figure, (axis,) = figures.panels(1, width=5)
    figures.curves(axis, results, "power", "accuracy_over_power")
    figures.labelled(axis, "perturbation power (mean L2 norm)", "accuracy")
    figures.legend(figure, axis)
    return figure


ATTACKED_ROWS = (BASELINE, FG_LINF, GAT)
CURVE = {f"at {at}": f"accuracy_at/{at}" for at in ("0", "0.25", "0.5", "1", "2")} | {"mean, 0 to 3": "mean_accuracy_over_power"}
GENERATED = {f"{label}, c_g={c:g}": f"{name}/{c:g}" for c in C_G for name, label in (("power", "power"), ("gain", "gain"))}
WEIGHTS = {"c_g": ",".join(f"{c:g}" for c in C_G)}
UNPLOTTED = "The paper has curves without numbers and does not define power: ours is the mean L2 norm after clipping to [0, 1]"

PAPER = Paper(
    name="gat",
    title="Lee, Han, Lee 2017, Generative Adversarial Trainer: Defense to Adversarial Perturbations with GAN",
    listings=[
        Listing(
            name="table1", title="Architectures of the classifier and of the generator", rows=architectures,
            differs="The paper prints no numbers of weights. Its last convolution is 1x1 and its outputs are averaged over 8x8 "
            "positions; ours is applied to the averaged features, which gives the same logits.",
        ),
    ],
    items=[
        table2("table2", "cifar10", "CIFAR-10", (77.48, 78.49, 77.59, 78.12, 77.99, 80.33, 81.62)),
        table2("table2_cifar100", "cifar100", "CIFAR-100", (44.32, 46.29, 44.43, 45.16, 45.67, 50.44, 50.71)),
        Item(
            name="figure2", title="Generators trained against the frozen baseline beside fast gradient attacks of equal power",
            rows={BASELINE: TRAINING}, measurement=Measurement(function=generator_curve, passes=passes), draw=draw_generators,
            presets=presets("cifar10", [BASELINE], 1, {**WEIGHTS, **FROZEN}, WEIGHTS),
            columns={"test": "accuracy", **GENERATED}, percent=["test", *(heading for heading in GENERATED if "gain" in heading)],
            published={BASELINE: {"test": 77}}, differs=f"{UNPLOTTED}. {UNSTATED}. {SMALLER}width 12 and lr_g=3e-3.",
        ),
        Item(
            name="figure3", title="Direct attack: accuracy under FG-L2 images made on each network itself",
            rows={row: ROWS[row] for row in ATTACKED_ROWS}, measurement=Measurement(function=direct_curve), draw=draw_curves,
            presets=presets("cifar10", ATTACKED_ROWS, 1, {}, {}), percent=[*CURVE, ATTACKED],
            columns={**CURVE, ATTACKED: "robust_accuracy/pgd_steps_20"}, differs=f"{UNPLOTTED}. {UNSTATED}. {SMALL_TRAINERS}",
        ),
        Item(
            name="figure4", title="Indirect attack: accuracy under FG-L2 images made on another baseline network",
            rows={row: ROWS[row] for row in ATTACKED_ROWS}, draw=draw_curves,
            measurement=Measurement(function=indirect_curve, sources={"another": {}}),
            presets=presets("cifar10", ATTACKED_ROWS, 1, {}, {}), columns=CURVE, percent=list(CURVE),
            differs=f"{UNPLOTTED}. {UNSTATED}. {SMALL_TRAINERS}",
        ),
    ],
)  # fmt: skip

if __name__ == "__main__":
    main(PAPER)
