"""Reference sets in the audits of a trial."""

import pytest
import torch

from core import data, trial
from core.config import TrialConfig
from core.evaluation import stored

torch.set_num_threads(1)


@pytest.mark.parametrize("params", [{"loss": "dmp", "epochs": 2}, {"regularizer": "advreg", "epochs": 1}], ids=["dmp", "advreg"])
def test_a_trial_audits_the_reference_set_separately_and_includes_it_in_the_worst_case(params):
    quick = {"pool": 320, "judge.steps": 1, "judge.images": 10, "net.width": 2, "batch_size": 32, **params}
    config, pool = TrialConfig.of(quick), data.load("digits", pool=320)
    parts = data.split(pool)
    result = trial.run(config, pool)
    private, reference = stored.member_rows(config, pool, parts)
    assert len(reference) and sorted([*private, *reference]) == sorted(parts.members)
    assert (result.predictions["member_rows"] == private).all()
    audits = [name for name in result.metrics.values if name.startswith("mia_auc/")]
    of_reference = [name for name in audits if "/reference_" in name]
    assert len(of_reference) == len(audits) / 2 > 0
    assert result.metrics["mia_auc"] == max(max(result.metrics[n], 1 - result.metrics[n]) for n in audits)
