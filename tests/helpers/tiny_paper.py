"""A paper with a table that trains in a second, and its command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.papers import figures
from trainables.papers.item import Item, Measurement, Paper, Preset, Results

TINY = {
    "dataset": "digits", "pool": 400, "net": "convnet", "net.width": 4, "epochs": 2, "batch_size": 50, "judge.suite": "none",
    "judge.attacks": "fgsm", "judge.images": 30,
}  # fmt: skip
ROWS = {"cross-entropy": {"loss": "cross_entropy"}, "label smoothing": {"loss": "label_smoothing", "loss.epsilon": 0.1}}


def draw(results: Results) -> Any:
    """Validation accuracy over epochs, one curve per row."""
    figure, (axis,) = figures.panels(1)
    figures.curves(axis, results, "epoch", "epoch/val_accuracy")
    figures.labelled(axis, "epoch", "accuracy")
    figures.legend(figure, axis)
    return figure


def item(
    changes: Mapping[str, Any] | None = None, *, seeds: int = 2, measurement: Measurement | None = None, **fields: Any
) -> Item:  # fmt: skip
    """The table, with some settings of its networks changed."""
    preset = Preset(config={**TINY, **(changes or {})}, seeds=seeds, **fields.pop("preset", {}))
    own: dict[str, Any] = {
        "name": "table1", "title": "Table 1: accuracy", "rows": ROWS, "presets": {"dev": preset, "paper": preset},
        "columns": {"accuracy": "accuracy", "AUC": "mia_auc"}, "percent": ("accuracy",),
        "published": {"cross-entropy": {"accuracy": 76.5}}, "differs": "the data.", "measurement": measurement,
    }  # fmt: skip
    return Item(**{**own, **fields})


def paper(items: Sequence[Item] = ()) -> Paper:
    """A paper with these items."""
    return Paper(name="tiny", title="A. Author (2020), a tiny paper", items=tuple(items or [item()]))


def script(folder: Path, changes: str = "", epochs: int = 2) -> Path:
    """Write a script of the paper, whose networks are trained for some epochs, with changes as arguments of `item`."""
    path = folder / "tiny.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from tiny_paper import item, paper\nfrom trainables.commands.paper import main\n"
        f"if __name__ == '__main__':\n    main(paper([item({{'epochs': {epochs}}}, {changes})]))\n"
    )
    return path
