"""Rank correlation of interim evaluations during a training with the metrics at its end, over random configurations.

    python tests/benchmarks/bench_rungs.py [--seeds 6] [--trials 20]

crl_tradeoff (its `dev` preset) with 30 epochs and a net of width 8, baselines included, random suggestions;
`core.evaluation.interim.evaluate_interim` after some epochs against the metrics of the trained network. Takes about 7 minutes on
one core. RESULTS: see infra/scale.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, RUNGS = 30, (3, 5, 10, 15, 20)


def evaluate(seed: int, trials: int) -> list[tuple[list[list[float]], list[float]]]:
    """Interim evaluations of each trial, by rung, and its metrics at the end."""
    from core import data, trial
    from core.config import TrialConfig
    from core.evaluation.interim import INTERIM_METRICS
    from core.study import trilemma
    from studies.crl_tradeoff import STUDY
    from trainables.search.reports import result_report
    from trainables.search.searcher import StudySearcher
    from trainables.storage.store import Store
    from trainables.study.plan import Plan
    from trainables.study.results import TrainingResult

    config = STUDY.presets["dev"].config.set({"epochs": EPOCHS, "net.width": 8})
    images = data.load(config.dataset)
    plan = Plan(
        name="bench", study="bench", question="", config=config, space=STUDY.space(config), objectives=trilemma(10),
        baselines={name: dict(changes) for name, changes in STUDY.baselines.items()}, trials=trials, sampler="random", seed=seed,
        confirm={}, replicates=0,
    )  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        searcher = StudySearcher(plan, Store.at(folder), [])
        for i in range(trials):
            suggestion = searcher.suggest(str(i))
            assert suggestion is not None
            result = trial.run(TrialConfig.of(suggestion["params"]), images, rungs=RUNGS)
            metrics = dict(result.metrics.values)
            searcher.on_trial_complete(str(i), result_report(TrainingResult(metrics=metrics)))
            interim = [[row[f"rung/{name}"] for name in INTERIM_METRICS] for row in result.curve if row["epoch"] in RUNGS]
            rows.append((interim, [metrics[name] for name in INTERIM_METRICS]))
    return rows


def main() -> None:
    """Print the correlations of each rung."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--trials", type=int, default=20)
    args = parser.parse_args()
    import numpy as np
    import torch
    from scipy.stats import spearmanr

    from core.evaluation.interim import INTERIM_METRICS

    torch.set_num_threads(1)
    rows = [row for seed in range(args.seeds) for row in evaluate(seed, args.trials)]
    interim, final = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    print(f"{len(rows)} configurations, rank correlation with the end of {EPOCHS} epochs")
    for i, rung in enumerate(RUNGS):
        values = (f"{name} {spearmanr(interim[:, i, j], final[:, j])[0]:+.2f}" for j, name in enumerate(INTERIM_METRICS))
        print(f"  after {rung:2} epochs: {', '.join(values)}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
