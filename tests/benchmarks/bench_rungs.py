"""How well a first impression in the middle of a training predicts its end: rank correlations over random configurations.

    python tests/benchmarks/bench_rungs.py [--seeds 6] [--trials 20]

crl_tradeoff on the digits with 30 epochs and a net of width 8, baselines included, random suggestions; `core.trial.glance` after
some epochs against the judge's numbers at the end. Takes about 7 minutes on one core. RESULTS: see infra/scale.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, RUNGS = 30, (3, 5, 10, 15, 20)


def rows(seed: int, trials: int) -> list[tuple[list[list[float]], list[float]]]:
    """Of each trial: what each rung showed, and what the judge found."""
    from core import data, trial
    from core.config import TrialConfig, trilemma
    from studies.crl_tradeoff import STUDY
    from trainables.plan import Plan
    from trainables.search import StudySearcher
    from trainables.store import Store

    config, images = STUDY.presets["dev"].config.set({"epochs": EPOCHS, "net.width": 8}), data.load("digits")
    plan = Plan(
        name="bench", study="bench", question="", config=config, space=STUDY.space(config), objectives=trilemma(10),
        baselines={name: dict(changes) for name, changes in STUDY.baselines.items()}, trials=trials, sampler="random", seed=seed,
        confirm={}, replicates=0,
    )  # fmt: skip
    searcher, found = StudySearcher(plan, Store.at(tempfile.mkdtemp()), []), []
    for i in range(trials):
        suggestion = searcher.suggest(str(i))
        assert suggestion is not None
        result = trial.run(TrialConfig.of(suggestion["params"]), images, rungs=RUNGS)
        searcher.on_trial_complete(str(i), {"metrics": dict(result.metrics.values)})
        seen = [[row[f"rung/{name}"] for name in trial.GLANCED] for row in result.curve if row["epoch"] in RUNGS]
        found.append((seen, [result.metrics[name] for name in trial.GLANCED]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--trials", type=int, default=20)
    args = parser.parse_args()
    import numpy as np
    import torch
    from scipy.stats import spearmanr

    from core.trial import GLANCED

    torch.set_num_threads(1)
    found = [row for seed in range(args.seeds) for row in rows(seed, args.trials)]
    seen, end = np.array([row[0] for row in found]), np.array([row[1] for row in found])
    print(f"{len(found)} configurations, rank correlation with the end of {EPOCHS} epochs")
    for i, rung in enumerate(RUNGS):
        values = (f"{name} {spearmanr(seen[:, i, j], end[:, j])[0]:+.2f}" for j, name in enumerate(GLANCED))
        print(f"  after {rung:2} epochs: {', '.join(values)}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
