"""Tests of `--seeds-per-trial` in a whole study: metrics are means over seeds, in the sweep and in every later re-evaluation."""

import re
from statistics import mean

import pytest
from files import read
from mlflow_runs import logged
from study_runs import QUICK

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(600)]
SEEDS = 2


def test_metrics_of_a_study_and_of_stronger_attacks_on_its_networks_are_means_over_seeds(run_study, tmp_path):
    options = (*QUICK, "5", "--sampler", "random", "--no-confirm", "--seeds-per-trial", str(SEEDS))
    study = run_study.study(tmp_path, *options)
    for path in sorted(study.folder.glob("trials/*/result.json")):
        whole = read(path)["metrics"]
        own = [read(path.parent / f"seeds/{i}/result.json")["metrics"] for i in range(1, SEEDS + 1)]
        assert own[0]["accuracy"] != own[1]["accuracy"] or own[0]["mia_auc"] != own[1]["mia_auc"]
        for metric in ("accuracy", "robust_accuracy", "mia_auc"):
            assert whole[metric] == pytest.approx(mean(m[metric] for m in own))
    before = read(study.folder / "trials/00003/result.json")["metrics"]
    out = run_study.succeed(
        tmp_path, study.name, "--suite", "standard", "--transfer-from", "1", script="studies/rejudge.py"
    )  # fmt: skip
    assert f"version 2, {5 * SEEDS} stored networks" in out
    assert re.search(rf"^\[\d+/{5 * SEEDS}\] trial \d, seed \d  robust_accuracy 0\.\d+ -> 0\.\d+$", out, re.M)
    seeds = [read(study.folder / f"versions/2/trials/00003/seeds/{i}/result.json")["metrics"] for i in (1, 2)]
    after = logged(study.tracking_uri, study.name).children[3].data.metrics
    assert after["robust_accuracy"] == pytest.approx(mean(m["robust_accuracy"] for m in seeds))
    assert after["robust_accuracy"] <= before["robust_accuracy"]
    pick = (study.name, "--maximize", "accuracy", "--unconfirmed", "--no-register")
    assert "the worse of the 2 seeds by accuracy" in run_study.succeed(tmp_path, *pick, script="studies/pick.py")
