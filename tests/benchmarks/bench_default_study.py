"""Does the default study resolve what it asks? Its baselines over several seeds and draws of members, in one process without Ray.

    python tests/benchmarks/bench_default_study.py [--seeds 5] [--preset dev] [--set NAME=VALUE ...]

Every baseline is trained with the same seeds and members, and evaluated as in the confirmation step; each network is audited by
two siblings. Required: the interval of the undefended network's `mia_auc` is above the chance level with every seed, also that of
the sweep's audits; the paired differences in `mia_auc` (CRL and adversarial training against undefended, and CRL + adversarial
training against adversarial training) exceed their 95 % intervals (Student); no flag is raised by every network. The chance level
is the 95 % quantile of the largest AUC after permuting membership.

`sweep_auc` is the largest AUC of the four threshold audits that a sweep has, here on `test` as well. Results on 2 CPU cores with
much other work (load 13), so that the CPU seconds are too high (AT: adversarial training):

    503 members, 1007 non-members, 5 seeds; mean ± 95 % over seeds (sd)

    |               | accuracy              | robust_accuracy       | sweep_auc             | mia_auc               | CPU s |
    | undefended    | 0.720 ± 0.020 (0.016) | 0.105 ± 0.027 (0.022) | 0.692 ± 0.027 (0.022) | 0.750 ± 0.016 (0.013) |   3.9 |
    | CRL alone     | 0.668 ± 0.009 (0.007) | 0.142 ± 0.020 (0.016) | 0.628 ± 0.021 (0.017) | 0.678 ± 0.013 (0.010) |   5.1 |
    | AT alone      | 0.782 ± 0.014 (0.011) | 0.311 ± 0.026 (0.021) | 0.698 ± 0.017 (0.014) | 0.818 ± 0.007 (0.006) |  10.7 |
    | CRL + AT      | 0.727 ± 0.034 (0.027) | 0.313 ± 0.019 (0.015) | 0.627 ± 0.017 (0.014) | 0.752 ± 0.027 (0.022) |  12.2 |
    | CRL alone - undefended | -0.052 ± 0.019 | +0.037 ± 0.020 | -0.064 ± 0.016 | -0.072 ± 0.023 |
    | AT alone - undefended  | +0.062 ± 0.020 | +0.205 ± 0.033 | +0.006 ± 0.017 | +0.069 ± 0.019 |
    | CRL + AT - AT alone    | -0.055 ± 0.023 | +0.003 ± 0.033 | -0.071 ± 0.016 | -0.066 ± 0.022 |

    sweep_auc of undefended: intervals from 0.625 or more, chance level 0.537 or less
    mia_auc of undefended: intervals from 0.697 or more, chance level 0.541 or less
    flags, of 20 networks: {}
    ok
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from core import data, trial
from core.audits.scores import SCORES
from core.audits.threshold import worst_case_auc
from core.config import TrialConfig
from core.data import Images
from core.evaluation.judge import TrialResult
from core.evaluation.privacy import audit_by_others
from core.flags import raised
from core.stats import mean_interval
from studies.crl_tradeoff import STUDY

METRICS = ("accuracy", "robust_accuracy", "sweep_auc", "mia_auc")
CONTRASTS = (
    ("CRL alone", "undefended"), ("adversarial training alone", "undefended"),
    ("CRL + adversarial training", "adversarial training alone"),
)  # fmt: skip
PERMUTATIONS = 200


def runs(config: TrialConfig, seeds: int, images: Images) -> tuple[list[dict[str, float]], list[float], Counter[str]]:
    """Metrics of a configuration's networks, CPU seconds of each, and how many of them raise each flag."""
    configs = [config.set({"seed": seed, "replicate": seed}) for seed in range(1, seeds + 1)]
    results: list[TrialResult] = []
    seconds, metrics = [], []
    for own in configs:
        start = time.process_time()
        results.append(trial.run(own, images))
        seconds.append(time.process_time() - start)
    for i, (own, result) in enumerate(zip(configs, results, strict=True)):
        siblings = [results[(i + k) % seeds].outputs for k in (1, 2)]
        found = audit_by_others(own, result.outputs, siblings, [], images, result.metrics.values)  # pyright: ignore[reportArgumentType]
        values = {**result.metrics.values, **found.metrics.values}
        sweep = {name: value for name, value in values.items() if name.split("/")[-1] in SCORES}
        values |= {name.replace("mia_auc", "sweep_auc"): value for name, value in worst_case_auc(sweep).items()}
        values["sweep_chance"], values["mia_chance"] = chance_levels(result, found.evidence)
        metrics.append(values)
    return metrics, seconds, Counter(flag for values in metrics for flag in raised(values))


def chance_levels(result: TrialResult, evidence: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The 95 % quantile of the largest AUC with permuted membership: of the sweep's audits, and of those with siblings too."""
    p = {name: torch.from_numpy(array) for name, array in result.predictions.items() if name.endswith(("logits", "labels"))}
    logits, labels = (torch.cat([p[f"member_{name}"], p[name]]) for name in ("logits", "labels"))
    member = np.arange(len(labels)) < len(p["member_labels"])
    own = largest_aucs([score(logits, labels).numpy() for score in SCORES.values()], member)
    scores = [array for name, array in evidence.items() if name.removeprefix("auditor/") not in ("rows", "member")]
    both = np.maximum(own, largest_aucs(scores, evidence["auditor/member"]))
    return float(np.quantile(own, 0.95)), float(np.quantile(both, 0.95))


def largest_aucs(scores: Sequence[np.ndarray], member: np.ndarray) -> np.ndarray:
    """The largest folded AUC of several scores, [n] each, for permutations of membership, bool [n]."""
    from scipy.stats import rankdata

    stream = np.random.default_rng(0)
    ranks = np.stack([rankdata(score) for score in scores])
    count, others = member.sum(), (~member).sum()
    aucs = [(ranks[:, stream.permutation(member)].sum(1) - count * (count + 1) / 2) / (count * others) for _ in range(PERMUTATIONS)]
    return np.maximum(aucs, 1 - np.array(aucs)).max(1)


def cell(values: Sequence[float], sign: str = "") -> str:
    """Mean and half-width of its 95 % interval."""
    mean, interval = mean_interval(values)
    return f"{mean:{sign}.3f} ± {interval.high - mean:.3f}"


def main() -> int:
    """Print the table; returns 0 if everything is as required, otherwise 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", default="dev")
    parser.add_argument("--set", nargs="+", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = STUDY.presets[args.preset]
    config = preset.config.set({**preset.confirm, **dict(text.split("=", 1) for text in args.set)})
    images = data.load(config.dataset, pool=config.pool)
    parts = data.split(images, config.split)
    print(f"{len(parts.members)} members, {len(parts.test)} non-members, {args.seeds} seeds; mean ± 95 % over seeds (sd)\n")
    print(f"| | {' | '.join(METRICS)} | CPU s |\n{'|---' * (len(METRICS) + 2)}|")
    found, flags = {}, Counter[str]()
    for name, changes in STUDY.baselines.items():
        found[name], seconds, own_flags = runs(config.set(changes), args.seeds, images)
        flags += own_flags
        cells = [f"{cell(v)} ({np.std(v, ddof=1):.3f})" for v in ([m[metric] for m in found[name]] for metric in METRICS)]
        print(f"| {name} | {' | '.join(cells)} | {np.median(seconds):.1f} |", flush=True)
    missed = [flag for flag, count in flags.items() if count == args.seeds * len(found)]
    for own, other in CONTRASTS:
        pairs = {m: [a[m] - b[m] for a, b in zip(found[own], found[other], strict=True)] for m in METRICS}
        print(f"| {own} - {other} | {' | '.join(cell(v, '+') for v in pairs.values())} | |")
        low, high = mean_interval(pairs["mia_auc"])[1]
        missed += [f"{own} - {other}"] if low <= 0 <= high else []
    print()
    for kind in ("sweep", "mia"):
        lows, chances = ([m[name] for m in found["undefended"]] for name in (f"{kind}_auc_low", f"{kind}_chance"))
        print(f"{kind}_auc of undefended: intervals from {min(lows):.3f} or more, chance level {max(chances):.3f} or less")
        missed += [f"{kind}_auc of undefended"] if any(low <= chance for low, chance in zip(lows, chances, strict=True)) else []
    print(f"flags, of {args.seeds * len(found)} networks: {dict(flags)}")
    print(f"MISSED: {', '.join(missed)}" if missed else "ok")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
