"""The tables and figures of the CRL paper: accuracy and membership leakage of networks with and without defences.

    python studies/papers/crl.py table1a --dataset parquet:DIR  # needs the photographs

Figures 1 to 3 are diagrams, and Table 2 names the components of the methods of Figure 7. Results are in docs/papers/crl.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from core.evaluation.prediction_gaps import prediction_gaps
from core.recipes import CRL_TRAINING, RECIPES, Recipe
from trainables.commands.paper import main
from trainables.papers import figures
from trainables.papers.item import Item, Measurement, Paper, Preset, Results

NETS = {"VGG11": "vgg11_bn", "ResNet18": "resnet18", "DenseNet121": "densenet", "GoogLeNet": "googlenet"}
ATTACKS = {"NN-Based": "mia_auc/nn", "Entropy": "mia_auc/entropy", "M-Entropy": "mia_auc/modified_entropy",
           "Grad-x": "mia_auc/gradient_norm"}  # fmt: skip
COLUMNS = {"Train Acc.": "train_accuracy", "Test Acc.": "accuracy", **ATTACKS}
ALPHA = {"cifar10": 0.5, "cifar100": 1.0, "svhn": 0.2}
"""Thresholds of the cross-entropy in CRL and RelaxLoss, by data set; ours, because the paper's are not published."""
LAMBDA, LAMBDA_PLAIN = 1.0, 0.01
"""Weight of the relaxed centre loss, and that without normalisation, where distances are about a hundred times as large; ours. With
the small networks of `dev`, 1 keeps more accuracy than 0.1."""


def row(recipe: str, dataset: str, net: str, changes: Recipe) -> Recipe:
    """A row: a recipe, trained as the paper trains this network on this data set."""
    training = dict(CRL_TRAINING[dataset, net])
    own: Recipe = {"judge.nn_lr": 0.01 if dataset == "svhn" or (dataset, net) == ("cifar10", "resnet18") else 0.1}
    if recipe == "advreg":
        own |= {"regularizer.pass_over": "smaller", "regularizer.batch_size_h": 2 * int(training["batch_size"])}
    if recipe == "dmp":
        training["epochs"] = 2 * int(training["epochs"])
    return {**RECIPES[recipe], **training, **own, **changes}


def crl(alpha: float, **further: float) -> Recipe:
    """CRL with a threshold of the cross-entropy, and further settings of the loss."""
    return {"loss.alpha_rce": alpha, "loss.lambda": LAMBDA, **{f"loss.{name}": value for name, value in further.items()}}


def defended(dataset: str, nets: Iterable[str]) -> dict[str, Recipe]:
    """The rows of a part of Table 1."""
    alpha = ALPHA[dataset]
    methods: dict[str, tuple[str, Recipe]] = {
        "CE": ("cross_entropy", {}), "AdvReg": ("advreg", {}), "RelaxLoss": ("relaxloss_crl_baseline", {"loss.alpha": alpha}),
        "CRL": ("crl", crl(alpha)),
    }  # fmt: skip
    return {f"{net} {name}": row(own[0], dataset, NETS[net], own[1]) for net in nets for name, own in methods.items()}


def curves(dataset: str, alphas: Iterable[float]) -> dict[str, dict[str, Recipe]]:
    """The rows of Figures 4 and 5 by defence, in order of the defence's strength, which their names end with."""
    methods: dict[str, tuple[str, dict[float, Recipe]]] = {
        "CRL": ("crl", {a: crl(a) for a in alphas}),
        "RelaxLoss": ("relaxloss_crl_baseline", {a: {"loss.alpha": a} for a in alphas}),
        "AdvReg": ("advreg", {a: {"regularizer.alpha": a} for a in (1.0, 6.0, 20.0)}),
        "Label-Smoothing": ("label_smoothing", {e: {"loss.epsilon": e} for e in (0.1, 0.4, 0.8)}),
        "Confidence-Penalty": ("confidence_penalty", {a: {"loss.alpha": a} for a in (0.1, 1.0, 4.0)}),
        "Early-Stopping": ("early_stopping", {s: {"optimizer.stop_at": s} for s in (0.5, 0.3, 0.15)}),
        "DMP, split": ("dmp", {r: {"loss.reference": r} for r in (0.5, 0.3)}),
        "DMP, synthetic": ("dmp", {n: {"loss.transfer": "acgan", "loss.generated": n} for n in (3.0, 1.0)}),
    }
    groups = {"CE": {"CE": row("cross_entropy", dataset, "resnet18", {})}}
    for name, (recipe, strengths) in methods.items():
        groups[name] = {f"{name} {s:g}": row(recipe, dataset, "resnet18", changes) for s, changes in strengths.items()}
    return groups


def arms() -> dict[str, dict[str, Recipe]]:
    """The rows of Figure 7 by method, with both thresholds rising together."""
    levels = {0.5: 0.6, 1.0: 0.7, 1.5: 0.8, 2.0: 0.9}
    plain = {"lambda": LAMBDA_PLAIN, "tau_rce": 0.0, "tau_rcl": 0.0}
    methods: dict[str, tuple[str, dict[float, Recipe]]] = {
        "ImpRelaxLoss": ("imp_relaxloss", {a: {"loss.alpha_rce": a} for a in levels}),
        "Relaxed Center Loss": ("crl", {a: crl(a, alpha_rcl=r, **plain) for a, r in levels.items()}),
        "CRL": ("crl", {a: crl(a, alpha_rcl=r) for a, r in levels.items()}),
    }
    return {
        name: {f"{name} {a:g}": row(recipe, "cifar100", "resnet18", changes) for a, changes in strengths.items()}
        for name, (recipe, strengths) in methods.items()
    }


def histograms() -> dict[str, Recipe]:
    """The nine rows of Figure 6."""
    rows = {name: own for group in curves("cifar100", (0.5, 1.0, 1.5)).values() for name, own in group.items()}
    kept = ("CE", "AdvReg 1", "AdvReg 6", *(f"{name} {a:g}" for name in ("RelaxLoss", "CRL") for a in (0.5, 1.0, 1.5)))
    return {name: rows[name] for name in kept}


GROUPS = {"members": "members", "non-members": "non_members"}
FULL: Recipe = {
    "split": "paper", "judge.part": "both", "judge.audits": "standard", "judge.suite": "none", "judge.attacks": "fgsm",
    "judge.images": 16,
}  # fmt: skip
SMALL: Recipe = {
    **FULL, "pool": 2000, "net": "resnet10", "net.width": 8, "optimizer.lr": 0.1, "optimizer.schedule": "10:0.1,14:0.01",
    "batch_size": 50, "epochs": 16, "judge.nn_lr": 0.01,
}  # fmt: skip
SMALLER = (
    "dev has 500 members, a ResNet-10 of width 8 in place of ResNet18 and of no other network, 16 epochs at lr 0.1 in three steps, "
    "no augmentation, AdvReg's inference network passing over the larger set, and DMP with the full KL divergence and a GAN of "
    "width 8 and 10 epochs"
)
DIFFERS = (
    "The strengths, lambda and reference shares of the published runs are not known: they are ours, as is AdvReg's alpha of 6. "
    f"NN-Based is measured on half of the non-members. {SMALLER}."
)
OMITTED = ("CRL 0.2", "RelaxLoss 0.2", "AdvReg 20", "Label-Smoothing 0.4", "Confidence-Penalty 0.1", "Early-Stopping 0.5",
           "DMP, synthetic 3", "CRL 2", "RelaxLoss 2", "ImpRelaxLoss 2", "Relaxed Center Loss 2")  # fmt: skip
"""Rows that `dev` omits."""


def dev(
    rows: Mapping[str, Recipe], seeds: int = 1, shadows: int = 0, changes: Mapping[str, Recipe] = {}
) -> Preset:  # fmt: skip
    """The small preset with these rows, without those that it omits; `changes` are further ones by the row's method."""
    augmented = any(recipe["augmentation"] == "crop_flip" for recipe in rows.values())
    common: Recipe = {"augmentation.padding": 0, "augmentation.flip": False} if augmented else {}
    small: dict[str, Recipe] = {
        "AdvReg": {"regularizer.pass_over": "larger", "regularizer.batch_size_h": 128},
        "DMP, split": {"epochs": 32, "loss.crl_compat": False},
        "DMP, synthetic": {"epochs": 32, "loss.crl_compat": False, "loss.gan_width": 8, "loss.gan_epochs": 10},
    }
    own: dict[str, Recipe] = {name: dict(common) for name in rows if name not in OMITTED}
    for method, recipe in {**small, **changes}.items():
        for name in own:
            own[name] |= recipe if method in name else {}
    return Preset(config=SMALL, rows=own, seeds=seeds, shadows=shadows)


def tradeoff(groups: Mapping[str, Mapping[str, Recipe]]) -> Any:
    """The function that draws the AUC of every attack over the accuracy, with a line for each defence."""
    rows = {name: list(own) for name, own in groups.items()}

    def draw(results: Results) -> Any:
        measured = {name for networks in results.values() for values in networks for name in values}
        shown = {name: metric for name, metric in ATTACKS.items() if metric in measured}
        figure, axes = figures.panels(len(shown), columns=2 if len(shown) == 4 else 3)
        for axis, (name, metric) in zip(axes, shown.items(), strict=True):
            figures.paths(axis, results, rows, "accuracy", metric)
            figures.labelled(axis, "test accuracy", "AUC", name)
        figures.legend(figure, axes[0])
        return figure

    return draw


def gap_histograms(results: Results) -> Any:
    """Draw the histograms of the gap between the two highest probabilities, one axis per row."""
    figure, axes = figures.panels(len(results), width=2.6, height=2.0)
    for axis, (name, networks) in zip(axes, results.items(), strict=True):
        groups = {label: figures.series(networks, f"gap_{key}")[0] for label, key in GROUPS.items()}
        figures.histogram(axis, figures.series(networks, "gap_edges")[0], groups)
        figures.labelled(axis, "top-1 minus top-2 probability", "share of images", name)
    figures.legend(figure, axes[0])
    return figure


def flat(groups: Mapping[str, Mapping[str, Recipe]]) -> dict[str, Recipe]:
    """The rows of all groups."""
    return {name: own for group in groups.values() for name, own in group.items()}


def item(name: str, title: str, rows: Mapping[str, Recipe], small: Preset, seeds: int = 1, **fields: Any) -> Item:
    """An item; `seeds` is the number of networks per row with the preset `paper`."""
    fields = {"columns": COLUMNS, "percent": list(COLUMNS), "differs": DIFFERS} | fields
    presets = {"dev": small, "paper": Preset(config=FULL, seeds=seeds, shadows=5)}
    return Item(name=name, title=title, rows=rows, presets=presets, **fields)


def table1(part: str, dataset: str, title: str, numbers: str, changes: Mapping[str, Recipe] = {}) -> Item:
    """A part of Table 1; `numbers` has a line for each network and method, which ends where the paper has no number."""
    lines = {words[0] + " " + words[1]: words[2:] for words in map(str.split, numbers.strip().splitlines())}
    published = {name: dict(zip(COLUMNS, map(float, own), strict=False)) for name, own in lines.items()}
    rows = defended(dataset, dict.fromkeys(name.split()[0] for name in lines))
    small = dev({name: own for name, own in rows.items() if name.startswith("ResNet18")}, seeds=2, shadows=2, changes=changes)
    return item(f"table1{part}", f"Table 1({part}): accuracy and leakage on {title}", rows, small, 5, published=published)


CIFAR10, CIFAR100, ABLATION = curves("cifar10", (0.2, 0.5, 0.8, 1.2)), curves("cifar100", (0.5, 1.0, 1.5, 2.0)), arms()
STRONGER: dict[str, Recipe] = {"RelaxLoss": {"loss.alpha": 1.0}, "CRL": {"loss.alpha_rce": 1.0}}
"""Thresholds of Table 1 in `dev`."""
GAPS = {"Train Acc.": "train_accuracy", "Test Acc.": "accuracy", "Gap, members": "gap_mean_members",
        "Gap, non-members": "gap_mean_non_members", "Overlap": "gap_overlap"}  # fmt: skip

PAPER = Paper(
    name="crl",
    title="Fang and Kim 2024, Center-Based Relaxed Learning Against Membership Inference Attacks",
    items=[
        table1("a", "cifar10", "CIFAR-10", """
            VGG11 CE 100 76.46 76.31 74.16 74.90 75.33
            VGG11 AdvReg 99.29 69.52 72.44 64.96 69.23 69.84
            VGG11 RelaxLoss 73.00 64.15 64.54 56.89 60.78 66.22
            VGG11 CRL 89.37 73.69 61.33 61.95 62.48 61.95
            ResNet18 CE 100 70.31 88.09 85.91 86.44 86.32
            ResNet18 AdvReg 97.57 54.97 77.54 71.10 79.28 70.70
            ResNet18 RelaxLoss 91.56 69.25 77.32 71.51 72.25 73.51
            ResNet18 CRL 86.73 71.53 60.21 63.70 65.15 65.34
            DenseNet121 CE 100 84.73 59.00 65.78 66.38
            DenseNet121 AdvReg 99.98 81.72 55.96 63.69 64.94
            DenseNet121 RelaxLoss 92.70 80.22 54.38 57.42 59.12
            DenseNet121 CRL 91.82 83.03 51.49 53.28 55.23
        """, STRONGER),
        table1("b", "cifar100", "CIFAR-100, augmented", """
            GoogLeNet CE 99.78 58.59 82.70 77.40 79.56 79.78
            GoogLeNet AdvReg 99.22 52.45 84.02 76.20 81.42 80.07
            GoogLeNet RelaxLoss 90.98 57.90 65.29 70.13 73.79 74.54
            GoogLeNet CRL 87.39 58.16 64.72 67.10 70.08 70.94
            ResNet18 CE 100 58.06 86.88 82.96 84.04 84.20
            ResNet18 AdvReg 99.43 48.98 86.99 79.87 85.35 80.03
            ResNet18 RelaxLoss 77.46 55.28 69.87 63.52 66.60 69.05
            ResNet18 CRL 79.74 57.53 66.48 63.80 65.09 66.07
            DenseNet121 CE 99.01 62.76 58.92 71.34 74.46
            DenseNet121 AdvReg 99.16 59.51 59.90 73.52 77.10
            DenseNet121 RelaxLoss 73.46 58.06 55.12 57.03 61.05
            DenseNet121 CRL 77.39 60.32 50.23 59.98 61.58
        """),
        table1("c", "svhn", "SVHN", """
            VGG11 CE 99.98 92.66 53.09 54.14 54.63 54.51
            VGG11 AdvReg 98.72 90.72 52.40 54.53 55.31 54.54
            VGG11 RelaxLoss 95.42 91.65 51.67 52.02 52.34 52.36
            VGG11 CRL 94.70 91.50 50.15 52.32 52.48 52.38
            ResNet18 CE 100 93.04 52.93 54.74 55.07 54.79
            ResNet18 AdvReg 99.90 90.47 52.18 55.14 55.79 55.07
            ResNet18 RelaxLoss 95.39 93.07 51.80 52.12 52.23 52.08
            ResNet18 CRL 95.82 93.13 50.04 51.92 52.02 51.89
        """),
        item("figure4", "Leakage over accuracy for defences of rising strength (ResNet18, CIFAR-10)", flat(CIFAR10),
             dev(flat(CIFAR10)), draw=tradeoff(CIFAR10)),
        item("figure5", "Leakage over accuracy for defences of rising strength (ResNet18, CIFAR-100, augmented)", flat(CIFAR100),
             dev(flat(CIFAR100)), draw=tradeoff(CIFAR100)),
        item("figure6", "Gap between the two highest probabilities of members and non-members (ResNet18, CIFAR-100)", histograms(),
             dev(histograms()), measurement=Measurement(function=prediction_gaps), draw=gap_histograms, columns=GAPS,
             percent=["Train Acc.", "Test Acc."]),
        item("figure7", "Leakage over accuracy for the components of CRL in Table 2 (ResNet18, CIFAR-100)", flat(ABLATION),
             dev(flat(ABLATION)), draw=tradeoff(ABLATION)),
    ],
)  # fmt: skip

if __name__ == "__main__":
    main(PAPER)
