"""Audits of trained networks: their chance level after later audits, and networks that conceal their members."""

from dataclasses import replace

import numpy as np
import pytest
from audited_networks import CONFIG, audited, full, pool, replicate, shadow

from core.audits.chance import chance_level
from core.audits.evidence import stored_scores
from core.data import split
from core.evaluation import privacy

# -- networks that conceal their members ---------------------------------------------------------------------------------


def with_hard_labels(outputs):
    """The same outputs with a logit of 10 for the predicted class and 0 for all others."""

    def hard(logits):
        labels = 10 * np.eye(10, dtype=np.float32)[logits.argmax(-1)]
        return np.where(np.isnan(logits), np.nan, labels).astype(np.float32)

    return replace(outputs, logits=hard(outputs.logits), adversarial=hard(outputs.adversarial))


@pytest.mark.thorough
def test_the_audits_of_networks_that_return_hard_labels_are_not_called_biased_or_blind():
    targets = [with_hard_labels(r.outputs) for r in (replicate(1), replicate(2), replicate(3))]
    shadows = [with_hard_labels(shadow(i).outputs) for i in (1, 2)]
    for seed in range(4):
        config = CONFIG.set({"replicate": 1, "seed": seed})
        values = audited(config, targets[0], targets[1:], shadows).metrics.values
        assert (values["flag/audit_is_blind"], values["flag/audit_is_biased"]) == (0, 0)


def test_a_stored_network_is_checked_for_concealed_members_when_it_is_audited_later():
    config = CONFIG.set({"replicate": 1, "seed": 1, "judge.audits": "scores"})
    result = replicate(1)
    metrics = privacy.reaudit(config, result.state["modules"], pool(), result.metrics.values).metrics
    assert [metrics[f"flag/{name}"] for name in ("batch_dependent", "recognises_members", "masked_confidence")] == [0, 0, 0]
    modules = result.state["modules"]
    flat = {name: value * 1e-20 if name.startswith("head") else value for name, value in modules["net"].items()}
    values = privacy.reaudit(config, {**modules, "net": flat}, pool(), result.metrics.values).metrics.values
    assert values["flag/masked_confidence"] == 1 and "mia_auc/label_only" in values


# -- chance levels --------------------------------------------------------------------------------------------------------


def own_scores():
    """The stored membership scores of replicate 1."""
    return stored_scores(replicate(1).predictions)


def test_the_groups_of_a_full_audit_are_own_and_label_only_on_fewer_images():
    own, label_only = own_scores()
    parts = split(pool(), replicate=1)
    assert set(own.scores) == {"confidence", "loss", "entropy", "modified_entropy", "gradient_norm", "loss_adversarial"}
    assert len(own.rows) == len(parts.members) + len(parts.test)
    assert set(label_only.scores) == {"label_only"} and label_only.member.sum() == 20 == (~label_only.member).sum()
    assert replicate(1).metrics["mia_auc_chance"] == chance_level([own, label_only])


def test_the_chance_level_after_audits_by_others_is_that_of_all_audits_of_the_network():
    further = privacy.audit_by_others(
        CONFIG.set({"replicate": 1, "seed": 1}), replicate(1).outputs, [replicate(2).outputs], [], pool(),
        replicate(1).metrics.values, own_scores(),
    )  # fmt: skip
    added = stored_scores(further.evidence)
    assert further.metrics["mia_auc_chance"] == chance_level([*added, *own_scores()]) != replicate(1).metrics["mia_auc_chance"]
    resolved = further.metrics["mia_auc"] > further.metrics["mia_auc_chance"]
    assert further.metrics["flag/leak_not_resolved"] == (not resolved)


def test_without_the_scores_of_earlier_audits_there_is_no_chance_level():
    assert "mia_auc_chance" not in full().metrics.values and "flag/leak_not_resolved" not in full().metrics.values


def test_an_audit_that_is_repeated_replaces_its_earlier_scores():
    own, label_only = own_scores()
    again = privacy.audited([own], replicate(1).metrics.values, [own, label_only])
    assert again["mia_auc_chance"] == replicate(1).metrics["mia_auc_chance"]
