"""Audits of trained networks, by themselves and by other networks, from the data to the metrics."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from audited_networks import CONFIG, audited, full, pool, replicate, shadow

from core import data, rng, trial
from core.audits import shadow_audits
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.outputs import ModelOutputs
from core.audits.roc import Roc
from core.audits.threshold import below_half, leak_metrics, worst_case_auc
from core.data import split
from core.errors import TrialError
from core.evaluation import privacy
from core.evaluation.stored import member_rows, stored_model
from core.modes import predict
from core.stats import score_interval

AUDITS = {
    "auditor": {"lira", "calibrated", "rmia", "lira_adversarial", "calibrated_adversarial"},
    "attacker": {"lira_offline", "calibrated_offline", "rmia_offline", "nn", "lira_offline_adversarial"},
}


def test_three_replicates_and_two_shadow_models_give_valid_controls():
    values = full().metrics.values
    assert all(np.isfinite(v) for v in values.values())
    for protocol in AUDITS:
        assert values[f"mia_control_memorised/{protocol}"] > 0.99
        assert 0.4 < values[f"mia_control_shuffled/{protocol}"] < 0.6
    assert (values["flag/audit_is_blind"], values["flag/audit_is_biased"]) == (0, 0)
    assert min(values[f"mia_auc/{name}"] for names in AUDITS.values() for name in names) > 0.4
    assert replicate(1).metrics["train_accuracy"] > 0.5  # far above chance


def test_metrics_of_an_audit_can_be_recomputed_from_its_evidence():
    values, evidence = full().metrics.values, full().evidence
    rocs = {}
    for protocol, names in AUDITS.items():
        member = evidence[f"{protocol}/member"]
        assert {key.removeprefix(f"{protocol}/") for key in evidence if key.startswith(protocol)} == names | {"rows", "member"}
        rocs |= {name: Roc.of(evidence[f"{protocol}/{name}"][member], evidence[f"{protocol}/{name}"][~member]) for name in names}
    expected = leak_metrics(rocs)
    assert {k: v for k, v in values.items() if k in expected} == expected
    assert worst_case_auc({**replicate(1).metrics.values, **expected}) == {
        k: values[k] for k in ("mia_auc", "mia_auc_low", "mia_auc_high")
    }


def test_audited_images_are_those_that_members_were_drawn_from_or_the_members_and_the_test_part():
    parts, evidence = split(pool(), replicate=1), full().evidence
    assert set(evidence["auditor/rows"]) == {*parts.members, *parts.val}
    assert set(evidence["attacker/rows"]) == {*parts.members, *parts.test}
    for protocol in AUDITS:
        rows, member = evidence[f"{protocol}/rows"], evidence[f"{protocol}/member"]
        assert set(rows[member]) == set(parts.members) and len(rows) == len(set(rows))


def test_learned_accuracies_exist_for_every_score_of_both_protocols():
    names = {name.removeprefix("mia_learned_accuracy/") for name in full().metrics.values if name.startswith("mia_learned")}
    scores = {"confidence", "loss", "entropy", "modified_entropy"}
    assert names == {f"{p}/{s}{c}" for p in AUDITS for s in scores for c in ("", "/per_class")}


def test_a_protocol_without_networks_is_skipped():
    by_replicates, by_shadows = audited(shadows=[]), audited(others=[])
    assert set(by_replicates.evidence) == {key for key in full().evidence if key.startswith("auditor")}
    assert set(by_shadows.evidence) == {key for key in full().evidence if key.startswith("attacker")}
    for part in (by_replicates, by_shadows):
        assert all(np.array_equal(part.evidence[key], full().evidence[key]) for key in part.evidence)
    neither = audited(others=[], shadows=[])
    assert neither.metrics.values == {} and neither.evidence == {}


def test_the_worst_case_auc_includes_earlier_audits():
    known = {"mia_auc/loss": 0.03, "mia_auc_low/loss": 0.02, "mia_auc_high/loss": 0.05}
    values = audited(shadows=[], known=known).metrics
    assert values["mia_auc"] == pytest.approx(0.97) and values["mia_auc_low"] < 0.95 < 0.98 < values["mia_auc_high"]


def test_outputs_of_another_replicate_are_rejected():
    for other in (replicate(2).outputs, shadow(1).outputs):
        with pytest.raises(TrialError, match="other members"):
            audited(target=other)


def test_a_blind_audit_raises_its_flag():
    """The positive control recognises other images than the members."""
    networks = [replicate(i).outputs for i in (1, 2, 3)]
    shifted = [replace(a, recognised=np.roll(a.recognised, 1, axis=0)) for a in networks]
    values = audited(target=shifted[0], others=shifted[1:], shadows=[]).metrics
    assert values["flag/audit_is_blind"] == 1 and values["mia_control_memorised/auditor"] < 0.7


def random_outputs(states, images):
    """Random outputs, which do not depend on the images."""
    logits = np.random.default_rng(0).normal(size=(len(states), len(images.y), 1, 10)).astype(np.float32)
    return [ModelOutputs(z, images.y.numpy(), state, (state > 0)[:, None]) for z, state in zip(logits, states, strict=True)]


def test_a_design_in_which_counts_reveal_membership_raises_the_flag_and_an_independent_one_does_not():
    images, config = data.load("digits"), CONFIG.set({"replicate": 1, "seed": 1})
    parts, s = split(images, replicate=1), np.random.default_rng(0)
    candidates = np.concatenate([parts.members, parts.val])
    balanced, independent = (-np.ones((4, len(images.y)), np.int8) for _ in range(2))
    balanced[0, parts.members] = independent[0, parts.members] = 1
    for n in candidates:  # each image is a member of two of the four networks
        balanced[1 + s.permutation(3)[: 2 - (balanced[0, n] > 0)], n] = 1
    for i in (2, 3, 4):
        independent[i - 1, split(images, replicate=i).members] = 1
    for states, flagged in ((balanced, 1), (independent, 0)):
        target, *others = random_outputs(states, images)
        values = privacy.audit_by_others(config, target, others, [], images, {}).metrics
        assert values["flag/audit_is_biased"] == flagged
        assert (abs(values["mia_control_shuffled/auditor"] - 0.5) > 0.09) == flagged


def test_reference_images_are_neither_members_nor_audited_without_evidence():
    """Images that are in the reference set of the target, or of all other replicates, are left out of the audit."""
    changes = {
        "regularizer": "advreg",
        "regularizer.reference": 0.4,
        "epochs": 2,
        "perturbation": "none",
        "judge.audits": "standard",
    }
    small = CONFIG.set(changes)
    states, references = -np.ones((3, len(pool().y)), np.int8), []
    for i in (1, 2, 3):
        private, reference = member_rows(small.set({"replicate": i, "seed": i}), pool(), split(pool(), replicate=i))
        states[i - 1, private], states[i - 1, reference] = 1, 0
        references.append(set(reference))
    networks = random_outputs(states, pool())
    config = small.set({"replicate": 1, "seed": 1})
    audit = audited(config, target=networks[0], others=networks[1:], shadows=[], known={})
    parts = split(pool(), replicate=1)
    unknown = references[1] & references[2]
    assert len(unknown) > 5
    assert set(audit.evidence["auditor/rows"]) == {*parts.members, *parts.val} - references[0] - unknown
    assert audit.metrics["flag/audit_is_blind"] == 0


@pytest.mark.parametrize("run", [replicate, shadow])
def test_outputs_are_those_of_the_stored_network(run):
    result = run(1)
    config = CONFIG.set({"replicate": 1, "seed": 1} if run is replicate else {"shadow": 1, "seed": 11})
    net = stored_model(config, result.state["modules"], pool(), torch.device("cpu")).net
    x = pool().x
    np.testing.assert_allclose(result.outputs.logits[:, 0], predict(net, x), atol=1e-5)
    np.testing.assert_allclose(result.outputs.logits[:, 1], predict(net, x.flip(3)), atol=1e-5)
    again = privacy.outputs_of(config, net, pool())
    np.testing.assert_allclose(again.adversarial, result.outputs.adversarial, atol=1e-4)


def test_adversarial_outputs_exist_exactly_for_the_target_half_of_the_pool():
    parts = split(pool())
    target = np.sort(np.concatenate([parts.members, parts.val, parts.test]))
    for result in (replicate(1), replicate(2), shadow(1)):
        assert np.array_equal(np.flatnonzero(np.isfinite(result.outputs.adversarial).all(1)), target)
    assert (replicate(1).outputs.adversarial_phi[target] <= replicate(1).outputs.phi[target, :1] + 1e-4).mean() > 0.9


def test_queries_are_mirrored_if_training_mirrored_images_and_adversarial_for_every_network():
    net = stored_model(CONFIG.set({"replicate": 1}), replicate(1).state["modules"], pool(), torch.device("cpu")).net
    for changes, queries in (
        ({"augmentation": "none"}, 1), ({"augmentation.flip": False}, 1), ({"perturbation": "none"}, 2),
        ({"perturbation": "none", "augmentation": "none", "shadow": 1}, 1),
    ):  # fmt: skip
        outputs = privacy.outputs_of(CONFIG.set(changes), net, pool())
        assert outputs.queries == queries and np.isfinite(outputs.adversarial[split(pool()).members]).all()


def test_an_undefended_network_and_its_auditors_are_compared_by_adversarial_images_too():
    plain = CONFIG.set({"perturbation": "none", "epochs": 1, "judge.audits": "standard"})
    one, two, model = (
        trial.run(plain.set(changes), pool())
        for changes in ({"replicate": 1, "seed": 1}, {"replicate": 2, "seed": 2}, {"shadow": 1, "seed": 11})
    )
    assert "mia_auc/loss_adversarial" in one.metrics.values
    audit = audited(plain.set({"replicate": 1, "seed": 1}), one.outputs, [two.outputs], [model.outputs], one.metrics.values)
    audits = {name.removeprefix("mia_auc/") for name in audit.metrics.values if name.startswith("mia_auc/")}
    assert audits == AUDITS["auditor"] | AUDITS["attacker"]


def test_audits_increase_from_scores_to_standard_to_full():
    scores, standard = (
        trial.run(CONFIG.set({"replicate": 1, "seed": 1, "judge.audits": kind}), pool()) for kind in ("scores", "standard")
    )
    kinds = [
        {n.removeprefix("mia_auc/") for n in r.metrics.values if n.startswith("mia_auc/")} for r in (scores, standard, replicate(1))
    ]
    assert kinds[0] == {"confidence", "loss", "entropy", "modified_entropy"}
    assert kinds[1] == kinds[0] | {"gradient_norm", "loss_adversarial"} and kinds[2] == kinds[1] | {"label_only"}
    assert scores.outputs is None and standard.outputs is not None
    for name in kinds[1]:
        assert standard.metrics[f"mia_auc/{name}"] == pytest.approx(replicate(1).metrics[f"mia_auc/{name}"], abs=1e-9)


def test_further_audits_compare_members_and_non_members_of_the_network():
    config, result, parts = CONFIG.set({"replicate": 1, "seed": 1}), replicate(1), split(pool(), replicate=1)
    net = stored_model(config, result.state["modules"], pool(), torch.device("cpu")).net
    sides = [(rows, pool().at(rows)) for rows in (parts.members, parts.test)]
    lengths = Roc.of(*(gradient_norm(net, side.x, side.y) for _, side in sides))
    assert result.metrics["mia_auc/gradient_norm"] == pytest.approx(lengths.auc, abs=1e-3)
    phi = result.outputs.adversarial_phi[:, 0]
    assert result.metrics["mia_auc/loss_adversarial"] == Roc.of(phi[parts.members], phi[parts.test]).auc
    walks = [
        boundary_distance(net, side.x[:20], side.y[:20], draw=rng.per_image(1, "label_only", ids=torch.from_numpy(rows[:20])))
        for rows, side in sides
    ]
    assert result.metrics["mia_auc/label_only"] == pytest.approx(Roc.of(*walks).auc, abs=0.02)


def test_the_audits_of_the_attacker_succeed_on_the_positive_control_of_networks_with_mirrored_training():
    parts = split(pool(), replicate=1)
    judged = np.concatenate([parts.members, parts.test])
    target, *shadows = [shadow_audits.positive_control(r.outputs) for r in (replicate(1), shadow(1), shadow(2))]
    assert target.queries == 2
    rocs = shadow_audits.attacker(target, shadows, judged, parts.shadow).rocs()
    assert shadow_audits.blind(rocs) == []


# -- the number of audits, and outputs that are not finite ---------------------------------------------------------------


def test_an_auc_below_half_counts_all_audits_of_the_network_so_far():
    """An AUC of 0.44 that is worth 400 independent pairs is significant alone, but not among fifty audits."""
    low, high = score_interval(0.44, 400)
    suspicious = {"mia_auc/z": 0.44, "mia_auc_low/z": low, "mia_auc_high/z": high}
    assert below_half(suspicious)
    others = {f"mia_auc{end}/{i}": value for i in range(40) for end, value in (("", 0.5), ("_low", 0.45), ("_high", 0.55))}
    assert audited(known=suspicious | others, shadows=[]).metrics["flag/auc_below_half"] == 0
    low, high = score_interval(0.3, 400)
    found = {"mia_auc/z": 0.3, "mia_auc_low/z": low, "mia_auc_high/z": high}
    assert audited(known=found | others, shadows=[]).metrics["flag/auc_below_half"] == 1


def test_outputs_of_a_sibling_that_are_not_finite_are_counted_and_those_of_the_network_are_rejected():
    sibling = replicate(2).outputs
    logits = sibling.logits.copy()
    logits[int(np.flatnonzero(sibling.state > 0)[0]), 0, 0] = np.inf
    values = audited(others=[replace(sibling, logits=logits), replicate(3).outputs], shadows=[]).metrics
    assert values["mia_left_out/auditor"] == 1 and "mia_left_out/auditor" not in full().metrics.values
    with pytest.raises(TrialError, match="stored outputs are not finite for 1 of 900 images"):
        audited(target=replace(replicate(1).outputs, logits=np.where(np.arange(900)[:, None, None] == 4, np.nan, sibling.logits)))


def test_a_score_that_is_nan_is_rejected_with_the_name_of_its_audit():
    with pytest.raises(ValueError, match=r"loss_adversarial has 2 members \(1 NaN\) and 1 non-members \(0 NaN\)"):
        Roc.of([0.5, np.nan], [0.1], "loss_adversarial")
