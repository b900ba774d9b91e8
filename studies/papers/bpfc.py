"""Tables of the BPFC paper: robustness without adversarial images, from equal logits for images with and without their low bits.

    python studies/papers/bpfc.py                                  # lists the tables
    python studies/papers/bpfc.py table1 --dataset parquet:DIR     # needs the photographs; a small version
    python studies/papers/bpfc.py table1 --preset paper --dry-run  # what the paper's version would cost; takes minutes

The paper (Addepalli et al. 2020) has no figure with measured numbers. Its Table 2 repeats two columns of Table 1 for CIFAR-10.
"""

from collections.abc import Mapping, Sequence

from core.evaluation.black_box import transfer_accuracy
from core.recipes import RECIPES, Recipe
from core.space import Value
from trainables.commands.paper import main
from trainables.cost.passes import ONE, STEP, Passes, Sizes
from trainables.papers.item import Item, Measurement, Paper, Preset

EPSILON = {"cifar10": 8 / 255, "fashion_mnist": 0.1, "mnist": 0.3}
STEP_SIZE = {"cifar10": "2/255", "fashion_mnist": "0.01", "mnist": "0.01"}
METHODS = ("FGSM-AT", "RSS-AT", "PGD-AT", "NT", "Mixup", "BPFC")
SMALLER = "dev has narrow networks, 2,400 images, few epochs, PGD training in few large steps, and evaluates the last epoch"
GREY = " RSS-AT and PGD-AT of dev also have clean images in their loss, without which such networks stay at chance."
DIFFERS = (
    "The paper does not state the settings of its baselines. The epoch is chosen by 9,000 of the paper's 10,000 validation images. "
    f"An image counts as fooled if any step of an attack fools it, and each attack has its own random start; {SMALLER}"
)


def normal_training(bpfc: str) -> Recipe:
    """A recipe of BPFC without its regularizer."""
    return {name: value for name, value in RECIPES[bpfc].items() if not name.startswith("regularizer")}


def pgd_training(epsilon: float, steps: int, step_size: float) -> Recipe:
    """PGD training on adversarial images alone."""
    settings: Recipe = {"epsilon": epsilon, "steps": steps, "step_size": step_size, "alpha": 0.0}
    return {"perturbation": "pgd", **{f"perturbation.{name}": value for name, value in settings.items()}}


CIFAR = normal_training("bpfc")
CIFAR_ROWS: dict[str, Recipe] = {
    "FGSM-AT": RECIPES["fgsm_at"], "RSS-AT": RECIPES["rss_at"], "PGD-AT": {**CIFAR, **pgd_training(8 / 255, 7, 2 / 255)},
    "NT": CIFAR, "Mixup": RECIPES["mixup"], "BPFC": RECIPES["bpfc"],
}  # fmt: skip
ABLATIONS: dict[str, Recipe] = {
    "A1: simple quant": RECIPES["bpfc_a1"], "A2: uniform noise": RECIPES["bpfc_a2"], "A3: l1 norm": RECIPES["bpfc_a3"],
}  # fmt: skip
MIXUP: Recipe = {"augmentation": "mixup", "optimizer.weight_decay": RECIPES["mixup"]["optimizer.weight_decay"]}


def grey_rows(dataset: str) -> dict[str, Recipe]:
    """The methods on MNIST or Fashion-MNIST: PGD training with 40 steps, and RSS with the weight of its authors' MNIST code."""
    normal, epsilon = normal_training(f"bpfc_{dataset}"), EPSILON[dataset]
    fgsm: Recipe = {**normal, "perturbation": "fgsm", "perturbation.epsilon": epsilon}
    rss: Recipe = {"regularizer": "rss", "regularizer.lambda": 5.0, "regularizer.random_share": 0.01 / epsilon}
    return {
        "FGSM-AT": {**fgsm, "perturbation.alpha": 0.5}, "RSS-AT": {**fgsm, "perturbation.alpha": 0.0, **rss},
        "PGD-AT": {**normal, **pgd_training(epsilon, 40, 0.01)}, "NT": normal, "Mixup": {**normal, **MIXUP},
        "BPFC": RECIPES[f"bpfc_{dataset}"],
    }  # fmt: skip


def pgd(dataset: str, steps: int) -> str:
    """PGD of `judge.attacks` with the paper's step size."""
    return f"pgd:steps={steps}:step_size={STEP_SIZE[dataset]}"


def verdict(attack: str) -> str:
    """The name of the accuracy under an attack of `judge.attacks` among the metrics."""
    return f"robust_accuracy/{attack.translate(str.maketrans(':=/', '___'))}"


def presets(dataset: str, rows: Sequence[str], attacks: Sequence[str]) -> dict[str, Preset]:
    """The presets of a table, in which all test images are attacked.

    The small one has narrow networks, a short schedule, and weights and steps of the methods that suit it.
    """
    cifar, epsilon = dataset == "cifar10", EPSILON[dataset]
    recipe = normal_training("bpfc" if cifar else f"bpfc_{dataset}")
    common: Recipe = {
        "dataset": dataset, "split": "official", "judge.part": "test", "judge.images": 0, "judge.epsilon": epsilon,
        "judge.suite": "none", "judge.attacks": "+".join(attacks),
        **{name: value for name, value in recipe.items() if name.partition(".")[0] != "net"},
    }  # fmt: skip
    small: Recipe = {
        "pool": 2400, "split.val": 0, "net.width": 8, "augmentation": "none", "optimizer.schedule": "one_cycle", "batch_size": 32,
    }  # fmt: skip
    small |= {"net": "resnet10", "epochs": 6} if cifar else {"optimizer.lr": 0.05, "epochs": 8}
    mixup: Recipe = {**MIXUP, "augmentation.padding": 0, "augmentation.flip": False}
    if cifar:
        penalty: Recipe = {"regularizer.growth": 3.0}
        changed = {"PGD-AT": pgd_training(epsilon, 2, 0.625 * epsilon), "BPFC": penalty, **dict.fromkeys(ABLATIONS, penalty)}
    else:
        changed = {
            "RSS-AT": {"perturbation.alpha": 0.5, "regularizer.lambda": 1.0}, "BPFC": {"regularizer.lambda": 5.0},
            "PGD-AT": {**pgd_training(epsilon, 3, 0.4 * epsilon), "perturbation.alpha": 0.8},
        }  # fmt: skip
    crops: Recipe = {"augmentation.padding": 4, "augmentation.flip": True} if cifar else {}
    selection: Recipe = {
        "split.val": 10000, "selection": "attack", "selection.images": 9000, "selection.epsilon": epsilon,
        "selection.attack": f"ifgsm:steps={7 if cifar else 40}", "selection.last": 0 if cifar else 30,
    }  # fmt: skip
    return {
        "dev": Preset(config={**common, **small}, rows={row: mixup if row == "Mixup" else changed.get(row, {}) for row in rows}),
        "paper": Preset(
            config={**common, **selection}, rows={row: {**MIXUP, **crops} if row == "Mixup" else {} for row in rows}
        ),
    }


def passes(sizes: Sizes, settings: Mapping[str, Value]) -> Passes:
    """Passes of FGSM on the row's network and of that network on the images of three networks."""
    del settings
    return (STEP + ONE * 3) * sizes.judged


def by_row(headings: Sequence[str], numbers: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """The paper's numbers by row and heading."""
    return {row: dict(zip(headings, own, strict=True)) for row, own in numbers.items()}


def table2(dataset: str, title: str, numbers: Sequence[tuple[float, float]]) -> Item:
    """The part of Table 2 for a data set."""
    columns = {"Clean": "accuracy", "PGD-1000": verdict(pgd(dataset, 1000))}
    return Item(
        name=f"table2_{dataset}", title=f"Table 2: accuracy (%) on {title}, clean and under PGD with 1000 steps",
        rows=grey_rows(dataset), presets=presets(dataset, METHODS, [pgd(dataset, 1000)]), columns=columns, percent=list(columns),
        published=by_row(list(columns), dict(zip(METHODS, numbers, strict=True))),
        differs=f"{DIFFERS}.{GREY}",
    )  # fmt: skip


def table3(
    dataset: str, title: str, rows: Mapping[str, Recipe], sources: Mapping[str, tuple[str, Recipe]],
    numbers: Sequence[tuple[float, float]],
) -> Item:  # fmt: skip
    """The part of Table 3 for a data set; `sources` are name and settings of the source networks by heading."""
    columns = {heading: f"black_box/{name}" for heading, (name, _) in sources.items()}
    note = GREY
    if dataset == "cifar10":
        note = " NT's 15.97 is its accuracy under white-box FGSM in the paper, so the source seems to be the network itself there."
    return Item(
        name=f"table3_{dataset}", title=f"Table 3: accuracy (%) on {title} under FGSM images made on other networks",
        rows=rows, presets=presets(dataset, METHODS, ["fgsm"]), columns={**columns, "itself": "white_box", "Clean": "accuracy"},
        percent=[*columns, "itself", "Clean"], published=by_row(list(columns), dict(zip(METHODS, numbers, strict=True))),
        measurement=Measurement(function=transfer_accuracy, sources=dict(sources.values()), passes=passes),
        differs=(
            "The sources are trained normally with seeds of their own, which the paper does not state; `itself` has images made on "
            f"the attacked network. The epoch is chosen by 9,000 of the paper's 10,000 validation images; {SMALLER}.{note}"
        ),
    )  # fmt: skip


TABLE1 = {
    "Clean": "accuracy", "FGSM": "white_box", "I-FGSM-7": verdict("ifgsm:steps=7"),
    **{f"PGD-{steps}": verdict(pgd("cifar10", steps)) for steps in (7, 20, 1000)},
}  # fmt: skip
GREY_SOURCES: dict[str, tuple[str, Recipe]] = {"Net-A": ("net_a", {"net": "net_a"}), "M-LeNet": ("mlenet", {"net": "mlenet"})}

PAPER = Paper(
    name="bpfc",
    title="Addepalli et al. 2020, Towards Achieving Adversarial Robustness by Enforcing Feature Consistency Across Bit Planes",
    items=[
        Item(
            name="table1", title="Table 1: accuracy (%) on CIFAR-10 under white-box attacks, and ablations of BPFC",
            rows=CIFAR_ROWS | ABLATIONS,
            presets=presets(
                "cifar10", [*METHODS, *ABLATIONS], ["ifgsm:steps=7", *(pgd("cifar10", steps) for steps in (7, 20, 1000))]
            ),
            columns=TABLE1, percent=list(TABLE1),
            published=by_row(list(TABLE1), {
                "FGSM-AT": (92.9, 96.9, 0.8, 0.4, 0.0, 0.0), "RSS-AT": (82.3, 55.0, 50.9, 50.0, 46.2, 45.8),
                "PGD-AT": (82.7, 54.6, 51.2, 50.4, 47.4, 47.0), "NT": (92.3, 16.0, 0.0, 0.0, 0.0, 0.0),
                "Mixup": (90.3, 27.4, 1.6, 0.6, 0.1, 0.0), "BPFC": (82.4, 50.1, 44.1, 41.7, 35.7, 34.4),
                "A1: simple quant": (82.6, 49.2, 41.4, 38.8, 31.6, 30.1), "A2: uniform noise": (82.6, 48.7, 42.3, 40.0, 33.3, 31.9),
                "A3: l1 norm": (92.1, 68.3, 60.8, 57.1, 46.8, 35.9),
            }),
            measurement=Measurement(function=transfer_accuracy, passes=passes),
            differs=f"{DIFFERS}.",
        ),
        table2(
            "fashion_mnist", "Fashion-MNIST", [(93.1, 15.1), (87.7, 71.8), (87.5, 79.1), (92.0, 0.3), (91.0, 0.0), (87.2, 67.7)]
        ),
        table2("mnist", "MNIST", [(99.4, 3.7), (99.0, 90.4), (99.3, 94.1), (99.2, 0.0), (99.4, 0.0), (99.1, 85.7)]),
        table3(
            "cifar10", "CIFAR-10", CIFAR_ROWS,
            {"VGG19": ("vgg19", {"net": "vgg19"}), "ResNet18": ("resnet18", {"net": "resnet18", "net.relu_before_addition": True})},
            [(78.67, 77.58), (79.80, 79.99), (80.24, 80.53), (36.11, 15.97), (42.67, 43.41), (78.92, 78.98)],
        ),
        table3(
            "fashion_mnist", "Fashion-MNIST", grey_rows("fashion_mnist"), GREY_SOURCES,
            [(94.36, 90.76), (84.99, 84.16), (84.99, 85.68), (34.71, 16.67), (54.65, 66.31), (81.38, 83.46)],
        ),
        table3(
            "mnist", "MNIST", grey_rows("mnist"), GREY_SOURCES,
            [(87.99, 85.68), (95.28, 95.19), (95.75, 95.36), (29.94, 16.60), (58.47, 69.46), (94.17, 94.56)],
        ),
    ],
)  # fmt: skip


if __name__ == "__main__":
    main(PAPER)
