"""What the terminal shows: one line per ended trial where it is a file, one live table where it is a terminal."""

import io
import random
import re
import time
from dataclasses import replace

import pytest
from rich.console import Console

from core.config import Limit, trilemma
from core.flags import FLAGS
from core.space import LogUniform, Switch, Uniform
from core.stats import Interval
from trainables.outcome import Confirmed, Outcome, Trial, change
from trainables.plan import Site
from trainables.progress import Progress, change_lines, flag_lines, front_table, where_lines
from trainables.store import Store
from trainables.terminal import Terminal


def metrics(accuracy: float, robust: float, auc: float) -> dict[str, float]:
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": auc}


TRIALS = [
    Trial(0, {"loss": "cross_entropy"}, metrics(0.9, 0.1, 0.7), baseline="undefended"),
    Trial(2, {"loss": "crl", "loss.lambda": 1 / 3}, error="TrialError: not finite: [train_loss]"),
    Trial(1, {"loss": "crl", "loss.lambda": 2.0}, metrics(2 / 3, 0.5, 0.55)),
]


@pytest.fixture
def outcome():
    return Outcome("crl-1", "crl", "Why?", trilemma(10), {"loss.lambda": LogUniform(0.1, 3)}, 6)


def shown(outcome: Outcome, trials: list[Trial], tty: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=tty, highlight=False, soft_wrap=True, width=300 if tty else 200)
    with Progress(outcome, console) as progress:
        for trial in trials:
            progress.started(trial.number, trial.params, trial.baseline)
            progress.rows(trial.number, [{"epoch": 1.0}])
            outcome.trials.append(trial)
            progress.ended(trial)
    return console.file.getvalue()


def table(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(front_table(outcome))
    return console.file.getvalue()


def test_a_file_gets_one_line_per_trial_and_no_escapes(outcome):
    text = shown(outcome, TRIALS)
    lines = text.splitlines()
    assert len(lines) == 3 and "\x1b" not in text and "\r" not in text
    assert lines[0].startswith("[1/6] trial 0 (undefended)  accuracy 0.900  robust_accuracy 0.100  mia_auc 0.700  hyper")
    # Boxes of 8/9 x 0.1 x 0.6 and 17/27 x 0.5 x 0.9 share one of 17/27 x 0.1 x 0.6.
    assert lines[2].startswith("[3/6] trial 1  accuracy 0.667  robust_accuracy 0.500  mia_auc 0.550  hypervolume 0.299")


@pytest.mark.parametrize("before", [0, 20])
def test_the_hypervolume_of_a_line_is_that_of_all_trials_so_far(outcome, before):
    rng, barring = random.Random(before), next(name for name, flag in FLAGS.items() if flag.bars)
    ended = [Trial(i, {"epochs": 9}, metrics(rng.random(), rng.random(), 0.5 + rng.random() / 2)) for i in range(60)]
    ended[3::7] = [replace(t, error="TrialError: no") for t in ended[3::7]]
    ended[4::7] = [replace(t, stopped=3, metrics={**t.metrics, "accuracy": 1.0}) for t in ended[4::7]]
    ended[5::7] = [replace(t, metrics={**t.metrics, "accuracy": 1.0, f"flag/{barring}": 1.0}) for t in ended[5::7]]
    outcome.require = (Limit.of("accuracy>=0.3"),)
    outcome.trials += ended[:before]
    volumes = []
    for line, count in zip(shown(outcome, ended[before:]).splitlines(), range(before + 1, 61), strict=True):
        if " hypervolume " in line:
            volumes.append(line.split(" hypervolume ")[1])
            assert volumes[-1] == f"{replace(outcome, trials=ended[:count]).hypervolume():.3f}"
    assert len(set(volumes)) > 5


def test_a_failed_trial_says_why_with_its_brackets(outcome):
    assert shown(outcome, TRIALS[1:2]) == "[1/6] trial 2 failed: TrialError: not finite: [train_loss]\n"


def test_a_line_stays_one_line_however_long(outcome):
    failed = Trial(3, {}, error="TrialError: " + "very " * 200 + "long")
    assert shown(outcome, [failed]).count("\n") == 1


def test_nothing_ended_is_nothing_said(outcome):
    assert shown(outcome, []) == ""


def test_a_terminal_gets_a_table_and_only_failures_stay(outcome):
    text = shown(outcome, TRIALS, tty=True)
    assert "\x1b" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "trial 2 failed: TrialError: not finite" in plain and "trial 0 (undefended)" not in plain
    assert "best mia_auc" in plain


def test_the_table_counts_and_takes_the_best_of_each_objective(outcome):
    progress = Progress(outcome, Console(file=io.StringIO()))
    progress.started(4, {}, "")
    outcome.trials += TRIALS
    cells = [list(column.cells) for column in progress.table().columns]
    assert cells[:7] == [["2/6"], ["1"], ["0"], ["1"], ["0.900"], ["0.500"], ["0.550"]]


def test_the_table_of_an_empty_study_can_be_shown(outcome):
    cells = [next(iter(column.cells)) for column in Progress(outcome, Console(file=io.StringIO())).table().columns]
    assert cells == ["0/6", "0", "0", "0", "-", "-", "-", "0.000", "-"]


def test_eta_goes_by_the_pace_so_far(outcome):
    progress = Progress(outcome, Console(file=io.StringIO()))
    assert progress.eta() == "-"
    outcome.trials += TRIALS  # three in 90 s, three to go
    progress.began = time.monotonic() - 90.5
    assert progress.eta() == "1:30"


def test_eta_leaves_out_what_an_earlier_driver_did(outcome):
    outcome.trials += TRIALS[:2]
    progress = Progress(outcome, Console(file=io.StringIO()))
    assert progress.eta() == "-"
    outcome.trials += TRIALS[2:]  # one in 100 s, three to go
    progress.began = time.monotonic() - 100.2
    assert progress.eta() == "5:00"


def test_the_front_of_an_empty_study_is_an_empty_table(outcome):
    text = table(outcome)
    assert "Front of crl-1" in text and "loss.lambda" in text and front_table(outcome).row_count == 0
    outcome.trials += TRIALS[1:2]
    assert front_table(outcome).row_count == 0


def test_the_front_shows_what_was_searched(outcome):
    outcome.trials += TRIALS
    text = table(outcome)
    rows = [line for line in text.splitlines() if re.search(r"│ +\d", line)]
    assert len(rows) == 2 and "0 undefended" in rows[0] and "- │" in rows[0]  # a baseline without the knob
    assert re.search(r"1 │ +0\.667 │ +0\.500 │ +0\.550 │ +2 │", rows[1])
    assert "confirmed" not in text


def test_the_front_of_a_conditional_study_has_a_column_per_slot_and_knob(outcome):
    outcome.trials += TRIALS
    relax = {"loss.alpha": Uniform(0, 1), "loss.upper": Uniform(0, 1)}
    crl = {"loss.lambda": LogUniform(0.1, 3), "loss.upper": Uniform(0.5, 1)}
    outcome.space = {"loss": Switch({"relaxloss": relax, "crl": crl}), "lr": Uniform(0, 1)}
    columns = {column.header: list(column.cells) for column in front_table(outcome).columns}
    assert list(columns)[4:] == ["loss", "loss.alpha", "loss.upper", "loss.lambda", "lr"]
    assert columns["loss"] == ["cross_entropy", "crl"]
    assert columns["loss.lambda"] == ["-", "2"] and columns["loss.alpha"] == ["-", "-"]


def test_the_front_shows_what_confirm_found(outcome):
    outcome.trials += TRIALS
    interval = {name: Interval(0.1, 0.2) for name in ("accuracy", "robust_accuracy", "mia_auc")}
    outcome.confirmed = [Confirmed(1, 3, metrics(0.65, 0.45, 0.56), interval, 0.5, False)]
    text = table(outcome)
    assert "0.650 / 0.450 / 0.560  LEFT  p=0.50" in text and "failed" in text  # trial 0 could not be confirmed


def test_a_log_is_wide_enough_for_whole_tables(capsys):
    assert Terminal().console.width == 200 and not Terminal().console.is_terminal


def flagged(outcome: Outcome) -> Outcome:
    """Trial 0 on the front but not done; trial 1 better than all, and barred; trial 3 barred and nothing anyway."""
    masked = {"flag/zero_gradients": 1.0, "flag/at_chance": 0.0}
    outcome.trials += [
        Trial(0, {"loss": "crl"}, metrics(0.9, 0.1, 0.7) | {"flag/more_steps_help": 1.0}),
        Trial(1, {"loss": "crl"}, metrics(0.8, 0.8, 0.6) | masked),
        Trial(3, {"loss": "crl"}, metrics(0.2, 0.05, 0.8) | masked),
        Trial(4, {"loss": "crl"}, metrics(0.7, 0.2, 0.7)),
    ]
    return outcome


def test_flagged_trials_have_a_mark_in_the_table_and_the_table_says_so(outcome):
    text = table(flagged(outcome))
    assert re.search(r"│ +0 ! │ +0\.900", text) and re.search(r"│ +4 │ +0\.700", text) and "! flagged, see below" in text
    outcome.trials = outcome.trials[3:]
    assert "!" not in table(outcome)


def test_every_flag_that_matters_to_the_front_is_explained_with_its_advice(outcome):
    lines = flag_lines(flagged(outcome))
    assert lines == [
        f"flag zero_gradients (kept off the front: trials 1): {FLAGS['zero_gradients'].means}; {FLAGS['zero_gradients'].advice}",
        f"flag more_steps_help (on the front: trials 0): {FLAGS['more_steps_help'].means}; {FLAGS['more_steps_help'].advice}",
    ]
    outcome.trials[0].metrics["flag/of_old"] = 1.0
    assert "flag of_old (on the front: trials 0)" in flag_lines(outcome)


def test_what_changed_is_said_in_numbers(outcome):
    outcome.trials += [TRIALS[0], TRIALS[2], Trial(5, {"loss": "crl"}, metrics(0.6, 0.45, 0.6))]
    lost = [replace(t, metrics=t.metrics | {"robust_accuracy": 0.2}) if t.number == 1 else t for t in outcome.trials]
    after = replace(outcome, trials=lost)
    after.changes = [change(outcome, after, "with more", "now", {})]
    assert change_lines(after) == [
        "robust_accuracy: -0.100 on average over 3 trials, at most -0.300 (trial 1)", "left the front: none; entered it: 5",
    ]  # fmt: skip
    assert "Front of crl-1, version 2" in table(after)
    still = replace(outcome, changes=[change(outcome, outcome, "with more", "now", {})])
    assert change_lines(still) == ["no objective moved", "left the front: none; entered it: none"]


def test_a_point_that_entered_the_front_later_was_not_trained_again(outcome):
    outcome.trials += TRIALS
    interval = {name: Interval(0.1, 0.2) for name in ("accuracy", "robust_accuracy", "mia_auc")}
    outcome.confirmed = [Confirmed(1, 3, metrics(0.65, 0.45, 0.56), interval, 0.5, True)]
    outcome.changes = [change(outcome, outcome, "with more", "now", {})]
    assert "not trained again" in table(outcome) and "failed" not in table(outcome)


def test_where_things_are_without_passwords():
    store = Store("s3://key:secret@host/runs")
    for uri in ("http://me:secret@host:5000", "postgresql://me:secret@host/db"):
        lines = where_lines(store, Site(tracking_uri=uri))
        assert lines[0] == "report: s3://***@host/runs/report.html" and "secret" not in "".join(lines)
    assert where_lines(store, Site())[1].endswith("-m mlflow ui --backend-store-uri sqlite:///mlflow.db")
