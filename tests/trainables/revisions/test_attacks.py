"""Tests of further attacks on stored networks: the worst case per image, what a network has met, transfer images, and restarts."""

from types import SimpleNamespace

import finished
import numpy as np
import pytest
import torch

from core import data
from core.attacks.gradient import pgd
from core.config import TrialConfig
from core.metrics import Metrics
from core.modes import predict
from trainables.execution.resources import Share, Workspace, to_shared
from trainables.execution.trainable import run_job
from trainables.revisions import attacks
from trainables.revisions.attacks import Attacks, source_network
from trainables.revisions.reevaluation import Finding
from trainables.storage.arrays import to_npz
from trainables.storage.jobs import Job, trial_folder
from trainables.storage.networks import StoredNetwork
from trainables.storage.results import evidence
from trainables.storage.store import Store
from trainables.storage.versions import Version

CPU = torch.device("cpu")
TINY = {"epochs": 8, "net.width": 4, "judge.steps": 2, "judge.images": 48, "judge.epsilon": 0.1}
ADVERSARIAL = {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Workspace, dict[int, StoredNetwork]]:
    """Two trained trials: one with plain and one with adversarial training."""
    store, networks = Store.at(str(tmp_path_factory.mktemp("trained"))), {}
    workspace = Workspace(Share(0, 1, 0), store, store)
    for number, changes in enumerate(({}, ADVERSARIAL)):
        params = TrialConfig.of({**TINY, **changes, "seed": number}).params()
        store.write_json(f"{trial_folder(number)}/params.json", {"number": number, "baseline": "", "params": params})
        result = run_job(Job(trial_folder(number), params), to_shared(data.load("digits")), workspace)
        assert not result.error, result.error
        networks[number] = StoredNetwork(f"trial {number}", trial_folder(number), params, result.metrics)
    return workspace, networks


def robust(arrays) -> np.ndarray:
    """Images that are robust against every attack."""
    return np.all([array for name, array in arrays.items() if name.startswith("robust/")], axis=0)


def version(number: int, **settings) -> Version:
    return Version(number, settings, "", {}, "now")


def evaluate(reevaluation: Attacks, network: StoredNetwork, workspace: Workspace, later=()) -> Finding:
    return reevaluation.evaluate(network, data.load("digits"), workspace, later, CPU)


def test_the_worst_case_is_over_all_attacks_so_far(trained):
    workspace, networks = trained
    for number, network in networks.items():
        found = evaluate(Attacks("standard", source=0), network, workspace)
        known = evidence(workspace.store, network.folder, [])
        both = robust(known) & robust(found.evidence)
        assert (robust(found.evidence) <= robust(known)).all()
        assert found.metrics["robust_accuracy"] == both.mean() <= network.metrics["robust_accuracy"]
        assert ("robust/transfer_0" in found.evidence) == (number != 0)
        assert {"robust/apgd_ce", "robust/apgd_t", "robust/pgd_cw", "robust/square"} <= found.evidence.keys()
        assert not {"robust/pgd", "robust/fgsm"} & found.evidence.keys()  # met before, with the same settings


def test_a_later_version_runs_only_new_attacks(trained):
    workspace, networks = trained
    evidence_of_2 = to_npz({"robust/apgd_t": np.arange(48) < 3})
    workspace.store.write("versions/2/trials/00001/predictions.npz", evidence_of_2)
    found = evaluate(Attacks("standard", source=0), networks[1], workspace, [version(2, suite="standard")])
    assert {name for name in found.evidence if name.startswith("robust/")} == {"robust/pgd_more", "robust/transfer_0"}
    assert found.metrics["robust_accuracy"] <= 3 / 48  # the evidence of version 2 counts


def recorded_attacks(monkeypatch) -> list[dict]:
    """Record the further attacks of each evaluation instead of running them."""
    seen = []

    def record(*args, others, **options):
        seen.append(others)
        return SimpleNamespace(metrics=Metrics({}), predictions={})

    monkeypatch.setattr(attacks, "attack_further", record)
    return seen


def test_transfer_images_are_made_on_the_source_with_all_steps(trained, monkeypatch):
    workspace, networks = trained
    seen = recorded_attacks(monkeypatch)
    evaluate(Attacks("quick", source=0), networks[1], workspace)
    attack = seen[0]["transfer_0"]
    assert attack.black_box and attack.knobs["attack"] is pgd and attack.knobs["stop_when_fooled"] is False
    assert (attack.knobs["steps"], attack.knobs["restarts"]) == (TINY["judge.steps"], 1)
    images, known = data.load("digits"), evidence(workspace.store, "trials/00000", [])
    logits = predict(attack.knobs["source"], images.x[known["rows"]]).numpy()
    np.testing.assert_allclose(logits, known["logits"], atol=1e-5)
    other = source_network(workspace.store, 1, images, CPU)
    assert (predict(other, images.x[known["rows"]]).numpy() != known["logits"]).any()


def test_whether_more_steps_help_is_decided_from_a_start_of_no_earlier_version(trained, monkeypatch):
    workspace, networks = trained
    seen = recorded_attacks(monkeypatch)
    for count in range(3):
        later = [version(number, suite="standard") for number in range(2, 2 + count)]
        for each in later:
            robust_to_none = to_npz({"robust/none": np.ones(48, bool)})
            workspace.store.write(f"{each.folder}/{networks[0].folder}/predictions.npz", robust_to_none)
        evaluate(Attacks("strong"), networks[0], workspace, later)
    assert [others["pgd_more"].knobs["restarts"] for others in seen] == [2, 3, 4]


@pytest.mark.parametrize("own, confirm, later, asked, number", [
    ("quick", None, [], ("quick", None), 1),
    ("quick", None, [], ("quick", 0), 0),
    ("quick", None, [], ("strong", None), 0),
    ("quick", "quick", [], ("quick", None), 1),
    ("quick", "standard", [], ("quick", None), 0),
    ("quick", "standard", [], ("standard", None), 0),
    ("quick", None, [{"suite": "strong"}], ("strong", None), 2),
    ("quick", None, [{"suite": "strong"}], ("strong", 1), 0),
    ("quick", None, [{"suite": "strong"}], ("standard", None), 0),
    ("quick", None, [{"suite": "strong", "transfer_from": 1}], ("strong", None), 2),
    ("quick", None, [{"suite": "strong", "transfer_from": 1}], ("strong", 2), 0),
    ("quick", None, [{"suite": "standard"}, {"suite": "strong", "transfer_from": 0}], ("strong", 0), 3),
    ("quick", None, [{"audit": "lira"}], ("strong", None), 0),
])  # fmt: skip
def test_covered(own, confirm, later, asked, number):
    changes = {"judge.suite": confirm} if confirm else {}
    config = TrialConfig.of({"judge.suite": own})
    plan = finished.plan(config=config, confirm=changes, replicates=3 if confirm else 0)
    versions = [version(i, **settings) for i, settings in enumerate(later, 2)]
    assert Attacks(*asked).covered(plan, versions) == number
