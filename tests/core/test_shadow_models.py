"""Shadow models and audits by other networks as trials: who may see what, and a small fleet from the data to the metrics."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from core import audit, data, rng, subject, trial
from core.audits import fleet
from core.audits.answers import Answers
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.roc import Roc
from core.audits.threshold import leak_metrics, worst_leak
from core.config import TrialConfig
from core.data import Images, split
from core.errors import TrialError
from core.train import predict

torch.set_num_threads(1)


def labelled(y):
    y = torch.as_tensor(np.asarray(y)).long()
    return Images(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y, int(y.max()) + 1)


@functools.cache
def uneven():
    return labelled(np.random.RandomState(0).permutation(np.repeat(np.arange(5), [8, 11, 20, 33, 41])))


# ---- who may see what

SPLITS = pytest.mark.parametrize("protocol", ["stratified", "paper"])


@SPLITS
def test_a_shadow_models_members_and_val_are_the_halves_of_the_shadow_pool(protocol):
    pool = split(uneven(), protocol).shadow
    drawn = set()
    for shadow in range(1, 9):
        parts = split(uneven(), protocol, shadow=shadow)
        assert sorted([*parts.members, *parts.val]) == sorted(pool)
        assert len(parts.val) - len(parts.members) in (-1, 0, 1) and not len(parts.test) and not len(parts.shadow)
        drawn.add(frozenset(parts.members))
    assert len(drawn) == 8


@SPLITS
def test_no_shadow_model_sees_an_image_that_any_replicate_trains_on_or_is_judged_on(protocol):
    theirs = set()
    for shadow in range(1, 5):
        for replicate in range(3):  # which says nothing about a shadow model
            parts = split(uneven(), protocol, replicate, shadow)
            assert np.array_equal(parts.members, split(uneven(), protocol, shadow=shadow).members)
            theirs |= {*parts.members, *parts.val}
    for replicate in range(6):
        parts = split(uneven(), protocol, replicate)
        ours = {*parts.members, *parts.val, *parts.test}
        assert not ours & theirs and ours | theirs == set(range(len(uneven().y)))


@pytest.mark.parametrize("n", [200, 201, 202, 203])
def test_the_papers_shadow_splits_are_scikit_learns_with_seeds_from_zero_on(n):
    selection = pytest.importorskip("sklearn.model_selection")
    images = labelled(np.random.RandomState(1).permutation(np.arange(n) % 5))
    _, pool = selection.train_test_split(np.arange(n), test_size=0.5, random_state=0)
    for shadow in (1, 2, 5):
        members, others = selection.train_test_split(pool, test_size=0.5, random_state=shadow - 1)
        parts = split(images, "paper", shadow=shadow)
        assert np.array_equal(parts.members, members) and np.array_equal(parts.val, others)


def test_a_stratified_shadow_split_shares_every_class_out_to_one_image():
    y = uneven().y.numpy()
    pool = np.bincount(y[split(uneven()).shadow])
    for shadow in range(1, 6):
        parts = split(uneven(), shadow=shadow)
        assert np.abs(np.bincount(y[parts.members]) - pool / 2).max() < 1


# ---- a small fleet

CONFIG = TrialConfig.of({
    "epochs": 12, "batch_size": 64, "net.width": 8, "optimizer.lr": 0.2, "judge.part": "test", "judge.epsilon": 0.06,
    "judge.steps": 3, "judge.images": 20, "judge.audits": "full", "perturbation": "noise",
    "augmentation": "crop_flip", "augmentation.padding": 0,
})  # fmt: skip


@functools.cache
def pool():
    return data.load("digits", pool=900)


@functools.cache
def replicate(i):
    return trial.run(CONFIG.set({"replicate": i, "seed": i}), pool())


@functools.cache
def shadow(i):
    return trial.run(CONFIG.set({"shadow": i, "seed": 10 + i}), pool())


def audited(config=None, target=None, others=None, shadows=None, known=None):
    """Of replicate 1 by 2 and 3 and by two shadow models, but for what is given."""
    return audit.by_others(
        config or CONFIG.set({"replicate": 1, "seed": 1}),
        replicate(1).answers if target is None else target,
        [replicate(i).answers for i in (2, 3)] if others is None else others,
        [shadow(i).answers for i in (1, 2)] if shadows is None else shadows,
        pool(),
        replicate(1).metrics.values if known is None else known,
    )


full = functools.cache(audited)
AUDITS = {
    "auditor": {"lira", "calibrated", "rmia", "lira_adversarial", "calibrated_adversarial"},
    "attacker": {"lira_offline", "calibrated_offline", "rmia_offline", "nn", "lira_offline_adversarial"},
}


def test_a_fleet_of_three_replicates_and_two_shadow_models_is_audited_with_good_controls():
    values = full().metrics.values
    assert all(np.isfinite(v) for v in values.values())
    for protocol in AUDITS:
        assert values[f"mia_control_memorised/{protocol}"] > 0.99
        assert 0.4 < values[f"mia_control_shuffled/{protocol}"] < 0.6
    assert (values["flag/audit_is_blind"], values["flag/audit_is_biased"]) == (0, 0)
    assert min(values[f"mia_auc/{name}"] for names in AUDITS.values() for name in names) > 0.4
    assert replicate(1).metrics["train_accuracy"] > 0.5  # it has learned something


def test_every_metric_of_an_audit_is_a_reading_of_its_evidence():
    values, evidence = full().metrics.values, full().evidence
    rocs = {}
    for protocol, names in AUDITS.items():
        member = evidence[f"{protocol}/member"]
        assert {key.removeprefix(f"{protocol}/") for key in evidence if key.startswith(protocol)} == names | {"rows", "member"}
        rocs |= {name: Roc.of(evidence[f"{protocol}/{name}"][member], evidence[f"{protocol}/{name}"][~member]) for name in names}
    expected = leak_metrics(rocs)
    assert {k: v for k, v in values.items() if k in expected} == expected
    assert worst_leak({**replicate(1).metrics.values, **expected}) == {
        k: values[k] for k in ("mia_auc", "mia_auc_low", "mia_auc_high")
    }


def test_who_is_audited_are_all_whom_members_were_drawn_from_or_the_members_and_test():
    parts, evidence = split(pool(), replicate=1), full().evidence
    assert set(evidence["auditor/rows"]) == {*parts.members, *parts.val}
    assert set(evidence["attacker/rows"]) == {*parts.members, *parts.test}
    for protocol in AUDITS:
        rows, member = evidence[f"{protocol}/rows"], evidence[f"{protocol}/member"]
        assert set(rows[member]) == set(parts.members) and len(rows) == len(set(rows))


def test_learned_accuracies_are_given_for_every_score_of_both_protocols():
    names = {name.removeprefix("mia_learned_accuracy/") for name in full().metrics.values if name.startswith("mia_learned")}
    scores = {"confidence", "loss", "entropy", "modified_entropy"}
    assert names == {f"{p}/{s}{c}" for p in AUDITS for s in scores for c in ("", "/per_class")}


def test_a_protocol_without_networks_is_skipped():
    alone, outside = audited(shadows=[]), audited(others=[])
    assert set(alone.evidence) == {key for key in full().evidence if key.startswith("auditor")}
    assert set(outside.evidence) == {key for key in full().evidence if key.startswith("attacker")}
    for part in (alone, outside):
        assert all(np.array_equal(part.evidence[key], full().evidence[key]) for key in part.evidence)
    nobody = audited(others=[], shadows=[])
    assert nobody.metrics.values == {} and nobody.evidence == {}


def test_the_worst_leak_counts_what_was_known_before():
    known = {"mia_auc/loss": 0.03, "mia_auc_low/loss": 0.02, "mia_auc_high/loss": 0.05}
    values = audited(shadows=[], known=known).metrics
    assert values["mia_auc"] == pytest.approx(0.97) and values["mia_auc_low"] < 0.95 < 0.98 < values["mia_auc_high"]


def test_answers_of_another_replicate_are_refused():
    for other in (replicate(2).answers, shadow(1).answers):
        with pytest.raises(TrialError, match="other members"):
            audited(target=other)


def test_a_blind_audit_raises_its_flag():
    """Twins know other images than the memberships say."""
    networks = [replicate(i).answers for i in (1, 2, 3)]
    moved = [replace(a, recognised=np.roll(a.recognised, 1, axis=0)) for a in networks]
    values = audited(target=moved[0], others=moved[1:], shadows=[]).metrics
    assert values["flag/audit_is_blind"] == 1 and values["mia_control_memorised/auditor"] < 0.7


def random_answers(states, images):
    """Of networks that know nothing."""
    logits = np.random.default_rng(0).normal(size=(len(states), len(images.y), 1, 10)).astype(np.float32)
    return [Answers(z, images.y.numpy(), state, (state > 0)[:, None]) for z, state in zip(logits, states, strict=True)]


def test_a_fleet_in_which_the_others_counts_give_membership_away_raises_the_flag_and_one_drawn_independently_does_not():
    images, config = data.load("digits"), CONFIG.set({"replicate": 1, "seed": 1})
    parts, s = split(images, replicate=1), np.random.default_rng(0)
    open_ = np.concatenate([parts.members, parts.val])
    balanced, independent = (-np.ones((4, len(images.y)), np.int8) for _ in range(2))
    balanced[0, parts.members] = independent[0, parts.members] = 1
    for n in open_:  # each image is in two of the four
        balanced[1 + s.permutation(3)[: 2 - (balanced[0, n] > 0)], n] = 1
    for i in (2, 3, 4):
        independent[i - 1, split(images, replicate=i).members] = 1
    for states, flagged in ((balanced, 1), (independent, 0)):
        target, *others = random_answers(states, images)
        values = audit.by_others(config, target, others, [], images, {}).metrics
        assert values["flag/audit_is_biased"] == flagged
        assert (abs(values["mia_control_shuffled/auditor"] - 0.5) > 0.09) == flagged


def test_members_that_a_slot_keeps_apart_are_nobodys_members_and_the_audit_goes_on():
    """Of the images that no sister says anything about, the audit says nothing either."""
    changes = {
        "regularizer": "advreg",
        "regularizer.reference": 0.4,
        "epochs": 2,
        "perturbation": "none",
        "judge.audits": "standard",
    }
    small = CONFIG.set(changes)
    states, asides = -np.ones((3, len(pool().y)), np.int8), []
    for i in (1, 2, 3):
        private, aside = subject.member_rows(small.set({"replicate": i, "seed": i}), pool(), split(pool(), replicate=i))
        states[i - 1, private], states[i - 1, aside] = 1, 0
        asides.append(set(aside))
    networks = random_answers(states, pool())
    config = small.set({"replicate": 1, "seed": 1})
    found = audited(config, target=networks[0], others=networks[1:], shadows=[], known={})
    parts = split(pool(), replicate=1)
    unknown = asides[1] & asides[2]
    assert len(unknown) > 5
    assert set(found.evidence["auditor/rows"]) == {*parts.members, *parts.val} - asides[0] - unknown
    assert found.metrics["flag/audit_is_blind"] == 0


# ---- what single trials leave for it


def test_a_shadow_model_is_asked_and_not_judged():
    result, parts = shadow(1), split(pool(), shadow=1)
    assert set(np.flatnonzero(result.answers.state == 1)) == set(parts.members)
    right = result.answers.logits[:, 0].argmax(1) == pool().y.numpy()
    assert result.metrics["accuracy"] == pytest.approx(right[parts.val].mean())
    assert result.metrics["train_accuracy"] == pytest.approx(right[parts.members].mean())
    assert not any("mia" in name or "robust" in name or "flag" in name for name in result.metrics.values)
    assert np.array_equal(result.predictions["member_rows"], parts.members) and not len(result.predictions["reference_rows"])


@pytest.mark.parametrize("run", [replicate, shadow])
def test_answers_are_those_of_the_stored_network(run):
    result = run(1)
    config = CONFIG.set({"replicate": 1, "seed": 1} if run is replicate else {"shadow": 1, "seed": 11})
    net = subject.stored(config, result.state["modules"], pool(), torch.device("cpu")).net
    x = pool().x
    np.testing.assert_allclose(result.answers.logits[:, 0], predict(net, x), atol=1e-5)
    np.testing.assert_allclose(result.answers.logits[:, 1], predict(net, x.flip(3)), atol=1e-5)
    again = audit.answers_of(config, net, pool())
    np.testing.assert_allclose(again.adversarial, result.answers.adversarial, atol=1e-4)


def test_answers_on_adversarial_images_cover_the_targets_half_and_nothing_else():
    parts = split(pool())
    target = np.sort(np.concatenate([parts.members, parts.val, parts.test]))
    for result in (replicate(1), replicate(2), shadow(1)):
        assert np.array_equal(np.flatnonzero(np.isfinite(result.answers.adversarial).all(1)), target)
    assert (replicate(1).answers.adversarial_phi[target] <= replicate(1).answers.phi[target, :1] + 1e-4).mean() > 0.9


def test_a_network_is_mirrored_or_moved_only_where_its_training_did_so():
    net = subject.stored(CONFIG.set({"replicate": 1}), replicate(1).state["modules"], pool(), torch.device("cpu")).net
    for changes, queries, robust in (
        ({"augmentation": "none"}, 1, True), ({"augmentation.flip": False}, 1, True),
        ({"perturbation": "none"}, 2, False), ({"perturbation": "none", "augmentation": "none"}, 1, False),
    ):  # fmt: skip
        answers = audit.answers_of(CONFIG.set(changes), net, pool())
        assert (answers.queries, answers.adversarial is not None) == (queries, robust)


def test_what_is_audited_grows_from_scores_to_standard_to_full():
    scores, standard = (
        trial.run(CONFIG.set({"replicate": 1, "seed": 1, "judge.audits": kind}), pool()) for kind in ("scores", "standard")
    )
    kinds = [
        {n.removeprefix("mia_auc/") for n in r.metrics.values if n.startswith("mia_auc/")} for r in (scores, standard, replicate(1))
    ]
    assert kinds[0] == {"confidence", "loss", "entropy", "modified_entropy"}
    assert kinds[1] == kinds[0] | {"gradient_norm", "loss_adversarial"} and kinds[2] == kinds[1] | {"label_only"}
    assert scores.answers is None and standard.answers is not None
    for name in kinds[1]:
        assert standard.metrics[f"mia_auc/{name}"] == pytest.approx(replicate(1).metrics[f"mia_auc/{name}"], abs=1e-9)


def test_the_further_audits_are_those_of_the_network_on_members_and_non_members():
    config, result, parts = CONFIG.set({"replicate": 1, "seed": 1}), replicate(1), split(pool(), replicate=1)
    net = subject.stored(config, result.state["modules"], pool(), torch.device("cpu")).net
    sides = [(rows, pool().at(rows)) for rows in (parts.members, parts.test)]
    lengths = Roc.of(*(gradient_norm(net, side.x, side.y) for _, side in sides))
    assert result.metrics["mia_auc/gradient_norm"] == pytest.approx(lengths.auc, abs=1e-3)
    phi = result.answers.adversarial_phi[:, 0]
    assert result.metrics["mia_auc/loss_adversarial"] == Roc.of(phi[parts.members], phi[parts.test]).auc
    walks = [
        boundary_distance(net, side.x[:20], side.y[:20], draw=rng.per_image(1, "label_only", ids=torch.from_numpy(rows[:20])))
        for rows, side in sides
    ]
    assert result.metrics["mia_auc/label_only"] == pytest.approx(Roc.of(*walks).auc, abs=0.02)


def test_twins_of_trained_networks_are_caught_in_both_protocols_although_training_mirrors():
    parts = split(pool(), replicate=1)
    judged = np.concatenate([parts.members, parts.test])
    target, *shadows = [fleet.memorising(r.answers) for r in (replicate(1), shadow(1), shadow(2))]
    assert target.queries == 2
    rocs = fleet.attacker(target, shadows, judged, parts.shadow).rocs()
    assert fleet.misses(rocs) == []
