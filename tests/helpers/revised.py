"""Re-evaluations of the networks of `finished.study`, written by hand."""

from dataclasses import replace

import finished
import numpy as np

from trainables.storage.arrays import to_npz
from trainables.storage.store import Store
from trainables.storage.versions import Version
from trainables.study.results import AuditResult

FACTS = {"command": "python x.py", "commit": "abc", "started": "2026-01-02 03:04:05 +0000"}
SECOND = Version(2, {"suite": "standard"}, "with more attacks", FACTS, finished="2026-01-02 03:05:05 +0000")
THIRD = replace(SECOND, number=3)


def write_reevaluation(store: Store, version: Version, folder: str, robust: int | None = None, **metrics: float) -> None:
    """Write the result of re-evaluating one network; with neither `robust` nor metrics, the re-evaluation failed.

    Args:
        store: the study's folder.
        version: version of the re-evaluation.
        folder: folder of the network.
        robust: number of images, the first ones, that are robust against the Square attack.
        metrics: further metrics.
    """
    if robust is not None:
        store.write(f"{version.folder}/{folder}/predictions.npz", to_npz({"robust/square": np.arange(finished.IMAGES) < robust}))
        metrics = {"robust_accuracy": robust / finished.IMAGES, "robust_accuracy/square": robust / finished.IMAGES} | metrics
    result = AuditResult(metrics=metrics, error="" if metrics else "it broke")
    store.write_json(f"{version.folder}/{folder}/result.json", result.to_json())
