"""Typed results: their plain form, their states, and their combination with later evaluations."""

import ast
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import finished
import pytest

from trainables.storage.results import as_trial
from trainables.study.results import AuditResult, NetworkResult, TrainingResult, mean_metrics, merged
from trainables.study.trial_state import TrialState

ROOT = Path(__file__).resolve().parents[3]
CURVE = ({"epoch": 1, "epoch/loss": 1 / 3}, {"epoch": 2, "epoch/loss": 1e-300, "rung/accuracy": 0.5})
TRAININGS = {
    "empty": TrainingResult(),
    "completed": TrainingResult(metrics=finished.metrics(1), curve=list(CURVE), seconds=1 / 7),
    "reused": TrainingResult(metrics=finished.metrics(1), seconds=2.0, reused_from="other-1/trials/00003"),
    "failed": TrainingResult(curve=list(CURVE[:1]), error="TrialError: the loss is not finite", seconds=0.25),
    "stopped": TrainingResult(curve=list(CURVE), stopped_epoch=2),
}
AUDITS = {
    "empty": AuditResult(),
    "complete": AuditResult(
        metrics={"mia_auc": 0.6, "flag/audit_is_blind": 0.0}, seconds=1 / 7, fingerprint="0123abcd",
        curves={"lira": [None, 0.1, 1.0], "rmia": [None, None, 1.0]}, histogram={"members": [0, 3], "non_members": [2, 1]},
    ),
    "failed": AuditResult(error="no network.pt", fingerprint="0123abcd"),
    "incomplete": AuditResult(metrics={"mia_auc": 0.6}, incomplete=True),
}  # fmt: skip


# ---------------------------------------------------------------- plain form


@pytest.mark.parametrize("result", [*TRAININGS.values(), *AUDITS.values()], ids=[*TRAININGS, *(f"audit-{name}" for name in AUDITS)])
def test_a_result_is_restored_from_its_plain_form_and_from_json_text(result):
    plain = result.to_json()
    assert plain.keys() == {field.name for field in fields(result)}
    assert type(result).of_json(plain) == result
    restored = type(result).of_json(json.loads(json.dumps(plain, allow_nan=False)))
    assert restored == result and type(restored) is type(result)
    assert restored.to_json() == plain


def test_the_plain_form_is_a_copy():
    result = TrainingResult(metrics={"accuracy": 0.5}, curve=[{"epoch": 1}])
    plain = result.to_json()
    plain["metrics"]["accuracy"] = 0.0
    plain["curve"][0]["epoch"] = 9
    assert result == TrainingResult(metrics={"accuracy": 0.5}, curve=[{"epoch": 1}])


@pytest.mark.parametrize("result_type", [TrainingResult, AuditResult])
def test_an_unknown_field_is_rejected(result_type):
    with pytest.raises(TypeError, match="taken_from"):
        result_type.of_json({"metrics": {}, "taken_from": "other-1/trials/00003"})


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("name, state", [
    ("completed", TrialState.COMPLETED), ("reused", TrialState.COMPLETED), ("failed", TrialState.FAILED),
    ("stopped", TrialState.EARLY_STOPPED),
])  # fmt: skip
def test_the_state_of_a_trial_is_that_of_its_result(name, state):
    result = TRAININGS[name]
    trial = as_trial({"number": 3, "params": {"epochs": 2}, "baseline": "plain"}, result)
    assert result.state is trial.state is state
    assert (trial.metrics, trial.curve, trial.error) == (result.metrics, result.curve, result.error)
    assert (trial.reused_from, trial.stopped_epoch) == (result.reused_from, result.stopped_epoch)
    assert (trial.number, trial.params, trial.baseline) == (3, {"epochs": 2}, "plain")


def test_an_error_after_the_last_rung_is_a_failure():
    assert TrainingResult(error="lost", stopped_epoch=2).state is TrialState.FAILED


@pytest.mark.parametrize("name, complete", [("empty", True), ("complete", True), ("failed", False), ("incomplete", False)])
def test_an_audit_is_complete_unless_it_failed_or_models_were_missing(name, complete):
    assert AUDITS[name].complete is complete


# ---------------------------------------------------------------- later evaluations


def test_measured_metrics_replace_known_ones_and_the_others_stay():
    assert merged({"accuracy": 0.9, "robust_accuracy": 0.5}, {"robust_accuracy": 0.4, "robust_accuracy/square": 0.4}) == {
        "accuracy": 0.9, "robust_accuracy": 0.4, "robust_accuracy/square": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize("known, new, after", [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_a_flag_of_gradient_masking_is_never_cleared(known, new, after):
    flags = {"flag/zero_gradients": known}
    assert merged(flags, {"flag/zero_gradients": new})["flag/zero_gradients"] == after
    assert merged(flags, {})["flag/zero_gradients"] == known
    assert merged({}, {"flag/zero_gradients": new})["flag/zero_gradients"] == new


@pytest.mark.parametrize("known, new", [(1.0, 0.0), (0.0, 1.0)])
def test_the_latest_attack_decides_whether_more_steps_would_help(known, new):
    flags = {"flag/more_steps_help": known}
    assert merged(flags, {"flag/more_steps_help": new})["flag/more_steps_help"] == new
    assert merged(flags, {"robust_accuracy": 0.1})["flag/more_steps_help"] == known


def test_an_audit_adds_metrics_and_plots_and_a_failed_audit_fails_the_network():
    network = NetworkResult.of(TRAININGS["completed"])
    assert network == NetworkResult(metrics=finished.metrics(1), seconds=TRAININGS["completed"].seconds)
    audited = network.audited(AUDITS["complete"])
    assert audited.metrics == merged(finished.metrics(1), AUDITS["complete"].metrics) and not audited.error
    assert (audited.curves, audited.histogram) == (AUDITS["complete"].curves, AUDITS["complete"].histogram)
    assert audited.seconds == network.seconds + AUDITS["complete"].seconds
    assert network.audited(None) == network
    assert network.audited(AUDITS["failed"]) == NetworkResult(error="audit: no network.pt")
    failed = NetworkResult.of(TRAININGS["failed"])
    assert failed.audited(AUDITS["complete"]) == failed.audited(AUDITS["failed"]) == failed


# ---------------------------------------------------------------- no results as dictionaries


RESULT_KEYS = {
    "metrics", "curve", "error", "seconds", "reused_from", "stopped_epoch", "curves", "histogram", "fingerprint", "incomplete",
}  # fmt: skip
LEGITIMATE = {("trainables/tracking/tracker.py", "'error' in tags"): "a tag of a run in MLflow"}
"""Expressions that read such a key of something else than a result, by file and source text, with the reason."""
READERS = ("get", "pop", "setdefault", "__getitem__")


def read_keys(code: str) -> Iterator[tuple[str, str]]:
    """Keys that code reads by a literal string, with the source text: subscripts, `get`, `pop`, `in`, and patterns of `match`."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Subscript(slice=ast.Constant(value=str(key)), ctx=ast.Load()):
                yield key, ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Constant(value=str(key)), *_]) if attr in READERS:
                yield key, ast.unparse(node)
            case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()]):
                yield key, ast.unparse(node)
            case ast.MatchMapping(keys=keys):
                yield from ((key.value, ast.unparse(node)) for key in keys if isinstance(key, ast.Constant))
            case _:
                pass


def test_every_way_to_read_a_key_is_found():
    code = """
result["metrics"]; results[0]["curve"]; result.get("error"); result.get("seconds", 0.0); plain.pop("curves")
"histogram" in result; "fingerprint" not in result
match result:
    case {"incomplete": True}:
        pass
result["metrics"] = {}; result.metrics; print("stopped_epoch"); {"reused_from": ""}
"""
    expected = ["metrics", "curve", "error", "seconds", "curves", "histogram", "fingerprint", "incomplete"]
    assert sorted(key for key, _ in read_keys(code)) == sorted(expected)


def test_no_file_reads_a_result_by_string():
    """Results are objects; only their own module knows the names of their fields in files."""
    own = ROOT / "trainables/study/results.py"
    files = [file for folder in ("trainables", "studies") for file in (ROOT / folder).rglob("*.py") if file != own]
    used = {
        (str(file.relative_to(ROOT)), text) for file in files for key, text in read_keys(file.read_text()) if key in RESULT_KEYS
    }
    assert used == LEGITIMATE.keys()


def test_the_leak_of_a_configuration_is_not_resolved_if_its_mean_is_not_and_a_later_evaluation_decides():
    seeds = [
        {"mia_auc": 0.58, "mia_auc_chance": 0.55, "flag/leak_not_resolved": 0.0},
        {"mia_auc": 0.53, "mia_auc_chance": 0.55, "flag/leak_not_resolved": 1.0},
    ]
    assert mean_metrics(seeds)["flag/leak_not_resolved"] == 0 and mean_metrics(seeds)["mia_auc_chance"] == pytest.approx(0.55)
    assert mean_metrics([seeds[1], {**seeds[0], "mia_auc": 0.56}])["flag/leak_not_resolved"] == 1
    assert merged(seeds[1], {"mia_auc": 0.6, "flag/leak_not_resolved": 0.0})["flag/leak_not_resolved"] == 0
