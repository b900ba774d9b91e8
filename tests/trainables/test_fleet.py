"""Shadow models and audits by other networks, without a cluster: what is trained, what is kept, what is refused."""

import json
from pathlib import Path

import finished
import numpy as np
import pytest

from core import data, trial
from core.config import TrialConfig
from trainables import confirm, tasks
from trainables.confirm import Crew, subjects_of
from trainables.fleet import Asked, audit_all, audit_one, shadow_job, stored_answers, train_shadows, with_audit
from trainables.outcome import Trial
from trainables.results import replicates as stored_replicates
from trainables.store import Store
from trainables.trial import Job, Share, of_npz, pack, perform

TINY = {"epochs": 6, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1, "judge.part": "test"}
TINY |= {"judge.audits": "standard"}
ARRAYS = pack(data.load("digits"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Tasks run here, one after the other; the list says which."""
    done = []

    def spread(work, jobs, arrays, share, concurrency, ended=lambda name, result: None):
        results = {}
        for name, job in jobs.items():
            done.append((work.__name__, name))
            results[name] = work(**job, arrays=arrays)
            ended(name, results[name])
        return results

    monkeypatch.setattr(tasks, "spread", spread)
    return done


def shadows(root: Path, recipes, count: int) -> list[list[Job]]:
    store = Store.at(str(root))
    return train_shadows(recipes, count, ARRAYS, store, Share(0, 1, 0, store), 1, lambda text: None)


RECIPES = [TrialConfig.of({**TINY, **more}).params() for more in ({}, {"loss": "relaxloss"})]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("root")


def test_shadow_models_are_trained_once_and_four_more_are_four_more(root, in_this_process):
    first = shadows(root, RECIPES, 2)
    assert len(in_this_process) == 4 and [len(own) for own in first] == [2, 2]
    assert shadows(root, RECIPES, 2) == first and len(in_this_process) == 4
    six = shadows(root, RECIPES, 6)
    assert len(in_this_process) == 4 + 2 * 4 and [own[:2] for own in six] == first


def test_only_what_is_missing_of_a_killed_fleet_is_trained(root, in_this_process):
    known = shadows(root, RECIPES, 2)
    in_this_process.clear()
    (root / known[1][0].folder / "result.json").unlink()
    assert shadows(root, RECIPES, 2) == known
    assert in_this_process == [("perform", known[1][0].folder)]


def test_judge_seed_and_replicate_are_no_part_of_a_recipe_and_knobs_are():
    base = TrialConfig.of(TINY)
    same = [{"seed": 9}, {"replicate": 3}, {"judge.suite": "strong", "judge.part": "val", "judge.audits": "scores"}]
    other = [{"optimizer.lr": 0.2}, {"epochs": 7}, {"judge.epsilon": 0.2}]  # the ball of adversarial queries
    of = lambda change: shadow_job(base.set(change).params(), 1, ARRAYS).folder  # noqa: E731
    assert {of(change) for change in same} == {of({})}
    assert len({of(change) for change in (*other, {})}) == 4
    assert shadow_job(base.params(), 2, ARRAYS).folder != of({})


def test_shadow_models_see_nothing_of_what_any_replicate_sees(root):
    jobs = shadows(root, RECIPES[:1], 2)[0]
    images = data.load("digits")
    target = data.split(images)
    theirs = set(np.concatenate([target.members, target.val, target.test]))
    for job in jobs:
        answers = of_npz((root / job.folder / "answers.npz").read_bytes())
        assert not theirs & set(np.flatnonzero(answers["state"] >= 0))
    assert {job.params["shadow"] for job in jobs} == {1, 2} and len({job.params["seed"] for job in jobs}) == 2


def test_a_shadow_model_that_failed_is_tried_again(root, in_this_process):
    (known, *_), = shadows(root, RECIPES[:1], 2)  # fmt: skip
    result = json.loads((root / known.folder / "result.json").read_text())
    (root / known.folder / "result.json").write_text(json.dumps({**result, "error": "out of memory"}))
    in_this_process.clear()
    assert len(shadows(root, RECIPES[:1], 2)[0]) == 2 and in_this_process == [("perform", known.folder)]


def test_a_recipe_that_fails_has_no_shadow_models_and_says_so(tmp_path):
    store, said = Store.at(str(tmp_path)), []
    broken = TrialConfig.of({**TINY, "optimizer.lr": 1e30}).params()
    found = train_shadows([broken], 2, ARRAYS, store, Share(0, 1, 0, store), 1, said.append)
    assert found == [[]] and sum("failed" in line for line in said) == 2


# ---------------------------------------------------------------- audits


@pytest.fixture(scope="module")
def replicates(root) -> tuple[Store, dict[tuple[int, int], Job], dict]:
    store = Store.at(str(root)).below("s-1")
    jobs = {
        (7, r): Job(f"confirm/00007/{r}", TrialConfig.of({**TINY, "seed": r, "replicate": r}).params()) for r in (1, 2, 3)
    }  # fmt: skip
    return store, jobs, {key: perform(job, ARRAYS, store, Share(0, 1, 0)) for key, job in jobs.items()}


def audits(root, replicates, count: int, **changes):
    store, jobs, _ = replicates
    own = shadows(root, RECIPES[:1], count)[0]
    share = Share(0, 1, 0, Store.at(str(root)))
    subjects = {key: subject for key, subject in subjects_of(jobs).items() if changes.get("only", key) == key}
    return audit_all(
        subjects, dict.fromkeys(subjects, own), Asked(2, changes.get("asked", count)), ARRAYS, store, share, 1, lambda text: None
    )


def test_each_replicate_is_audited_by_its_sisters_and_by_shadow_models(root, replicates):
    found = audits(root, replicates, 2)
    for key, audit in found.items():
        metrics = audit["metrics"]
        assert not audit["error"]
        assert {
            f"mia_auc/{name}" for name in ("lira", "rmia", "calibrated", "lira_offline", "rmia_offline", "nn")
        } <= metrics.keys()
        assert metrics["mia_control_memorised/auditor"] > 0.9 and metrics["mia_control_memorised/attacker"] > 0.9
        assert metrics["flag/audit_is_blind"] == metrics["flag/audit_is_biased"] == metrics["flag/audit_lacks_models"] == 0
        known = replicates[2][key]["metrics"]
        named = [m[name] for m in (known, metrics) for name in m if name.startswith("mia_auc/")]
        assert metrics["mia_auc"] == max(max(auc, 1 - auc) for auc in named) >= known["mia_auc"]
        merged = with_audit(replicates[2][key], audit)
        assert merged["metrics"]["mia_auc"] == metrics["mia_auc"] and merged["metrics"]["accuracy"] == known["accuracy"]
        assert audit["curves"].keys() == {name.removeprefix("mia_auc/") for name in metrics if name.startswith("mia_auc/")}
        assert sum(audit["histogram"]["members"]) == 449 and sum(audit["histogram"]["non_members"]) == 225


def test_the_audited_are_the_images_that_members_were_drawn_from_or_the_unseen_ones(root, replicates):
    audits(root, replicates, 2)
    images = data.load("digits")
    for r in (1, 2, 3):
        evidence = of_npz((root / f"s-1/confirm/00007/{r}/audit.npz").read_bytes())
        parts = data.split(images, replicate=r)
        assert set(evidence["auditor/rows"]) == set(parts.members) | set(parts.val)
        assert set(evidence["attacker/rows"]) == set(parts.members) | set(parts.test)
        for protocol in ("auditor", "attacker"):
            rows, member = evidence[f"{protocol}/rows"], evidence[f"{protocol}/member"]
            assert set(rows[member]) == set(parts.members)


def test_an_audit_is_not_repeated_unless_there_are_more_shadow_models(root, replicates):
    audits(root, replicates, 2, only=(7, 1))
    path = root / "s-1/confirm/00007/1/audit.json"
    before = path.stat().st_mtime_ns
    audits(root, replicates, 2, only=(7, 1))
    assert path.stat().st_mtime_ns == before
    audits(root, replicates, 3, only=(7, 1))
    assert path.stat().st_mtime_ns > before


def test_an_audit_of_a_network_that_was_trained_again_is_not_kept(tmp_path):
    store = Store.at(str(tmp_path))
    jobs = {(1, r): Job(f"confirm/00001/{r}", TrialConfig.of({**TINY, "epochs": 1, "replicate": r}).params()) for r in (1, 2)}
    for job in jobs.values():
        perform(job, ARRAYS, store, Share(0, 1, 0))
    again = lambda: audit_one(subjects_of(jobs)[1, 1], (), Asked(1, 0), store, Share(0, 1, 0, store), ARRAYS)  # noqa: E731
    first = again()
    assert again() == first
    for r in (1, 2):  # the audited one, then its sister
        store.discard(f"confirm/00001/{r}/result.json")
        changed = Job(f"confirm/00001/{r}", {**jobs[1, r].params, "seed": 99})
        perform(changed, ARRAYS, store, Share(0, 1, 0))
        assert again()["by"] != first["by"] and again()["metrics"] != first["metrics"]


def test_a_point_with_one_sister_has_sound_controls_and_a_lost_sister_is_flagged(root, replicates):
    store, jobs, _ = replicates
    two = {key: job for key, job in jobs.items() if key[1] < 3}
    share = Share(0, 1, 0, Store.at(str(root)))
    for subject in subjects_of(two).values():
        metrics = audit_one(subject, (), Asked(2, 0), store, share, ARRAYS)["metrics"]
        assert metrics["mia_control_memorised/auditor"] > 0.99 and metrics["flag/audit_is_blind"] == 0
        assert metrics["flag/audit_lacks_models"] == 1


def test_a_replicate_that_was_never_audited_has_failed(root, replicates):
    store, _, _ = replicates
    (root / "s-1/confirm/00007/3/audit.json").unlink(missing_ok=True)
    assert "audit: its machine was lost" in stored_replicates(store)[7, 3]["error"]


def test_fewer_shadow_models_than_asked_for_are_flagged(root, replicates):
    found = audits(root, replicates, 1, asked=4, only=(7, 2))
    assert found[7, 2]["metrics"]["flag/audit_lacks_models"] == 1


def test_a_network_whose_answers_were_not_kept_is_asked_again(root, replicates):
    store, jobs, _ = replicates
    files, job = store.below("confirm/00007/1"), jobs[7, 1]
    kept = files.read("answers.npz")
    images, config = data.load("digits"), TrialConfig.of(job.params)
    cpu = trial.torch.device("cpu")
    before = stored_answers(files, config, images, cpu)
    files.discard("answers.npz")
    after = stored_answers(files, config, images, cpu)
    files.write("answers.npz", kept)
    assert np.array_equal(before.state, after.state) and np.abs(before.logits - after.logits).max() < 1e-5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda files: files.write("answers.npz", b"nonsense"), "answers.npz"),
        (lambda files: [files.discard("answers.npz"), files.discard("network.pt")], "no network.pt"),
    ],
)
def test_a_replicate_that_cannot_be_audited_has_failed(tmp_path, spoil, reason):
    store = Store.at(str(tmp_path)).below("s-1")
    jobs = {(1, r): Job(f"confirm/00001/{r}", TrialConfig.of({**TINY, "epochs": 1, "replicate": r}).params()) for r in (1, 2)}
    results = {key: perform(job, ARRAYS, store, Share(0, 1, 0)) for key, job in jobs.items()}
    spoil(store.below("confirm/00001/2"))
    subject = subjects_of(jobs)[1, 2]
    audit = audit_one(subject, (), Asked(1, 0), store, Share(0, 1, 0, Store.at(str(tmp_path))), ARRAYS)
    assert reason in audit["error"]
    merged = with_audit(results[1, 2], audit)
    assert merged["error"] == f"audit: {audit['error']}" and not merged["metrics"]


def test_answers_of_a_network_with_other_members_are_refused(tmp_path):
    store = Store.at(str(tmp_path))
    jobs = {(1, r): Job(f"confirm/00001/{r}", TrialConfig.of({**TINY, "epochs": 1, "replicate": r}).params()) for r in (1, 2)}
    for job in jobs.values():
        perform(job, ARRAYS, store, Share(0, 1, 0))
    store.write("confirm/00001/1/answers.npz", store.read("confirm/00001/2/answers.npz") or b"")
    audit = audit_one(subjects_of(jobs)[1, 1], (), Asked(1, 0), store, Share(0, 1, 0, store), ARRAYS)
    assert "other members" in audit["error"]


def test_a_study_trains_its_trials_and_replicates_and_no_shadow_model_unless_asked(tmp_path, in_this_process):
    """T + f x R networks: f points with R replicates each; with S shadow models, f x S more."""
    config = TrialConfig.of({**TINY, "judge.part": "val", "judge.audits": "scores"})
    usual = {"config": config, "replicates": 2, "confirm": {"judge.part": "test", "judge.audits": "standard"}}
    points = [
        Trial(number, config.set({"optimizer.lr": 0.05 * (number + 1)}).params(), finished.metrics(number)) for number in (0, 1)
    ]
    root = Store.at(str(tmp_path))
    share = Share(0, 1, 0, root)

    def confirmed(name: str, count: int):
        plan = finished.plan(name=name, shadows=count, **usual)
        return confirm.confirm(plan, points, ARRAYS, root.below(name), share, 1, crew=Crew(root, share, 1))

    trained = lambda: [p for p in tmp_path.rglob("result.json") if "taken_from" not in json.loads(p.read_text())]  # noqa: E731
    first = confirmed("s-1", 0)
    assert len(trained()) == 2 * 2 and not (tmp_path / "shadows").exists()
    assert all({"lira", "calibrated", "rmia"} <= point.leaks.keys() and "nn" not in point.leaks for point in first)
    assert first[0].means["mia_auc"] >= max(abs(leak.auc - 0.5) for leak in first[0].leaks.values()) + 0.5 - 1e-9
    again = confirmed("s-2", 0)
    assert len(trained()) == 2 * 2 and [p.means for p in again] == [p.means for p in first]
    more = confirmed("s-3", 1)
    assert len(trained()) == 2 * 2 + 2 * 1 and all("nn" in point.leaks for point in more)
    confirmed("s-4", 1)
    assert len(trained()) == 2 * 2 + 2 * 1
