"""The progress of a running study: one line per ended trial in a file, a live table on a terminal."""

import io
import random
import re
import time
from dataclasses import replace

import pytest
from rich.console import Console
from three_trials import TRIALS, metrics, outcome

from core.flags import FLAGS
from core.study import Constraint
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial
from trainables.terminal.progress import Progress


def printed(study: Outcome, trials: list[Trial], is_terminal: bool = False) -> str:
    """The output while these trials run and end."""
    width = 300 if is_terminal else 200
    console = Console(file=io.StringIO(), force_terminal=is_terminal, highlight=False, soft_wrap=True, width=width)
    with Progress(study, console) as progress:
        for trial in trials:
            progress.started(trial.number, trial.params, trial.baseline)
            progress.rows(trial.number, [{"epoch": 1.0}])
            study.trials.append(trial)
            progress.ended(trial)
    return console.file.getvalue()


def progress_of(study: Outcome) -> Progress:
    """The progress of an outcome, without output."""
    return Progress(study, Console(file=io.StringIO()))


def test_a_file_gets_one_line_per_trial_and_no_escape_sequences():
    text = printed(outcome(), TRIALS)
    lines = text.splitlines()
    assert len(lines) == 3 and "\x1b" not in text and "\r" not in text
    assert lines[0].startswith("[1/6] trial 0 (undefended)  accuracy 0.900  robust_accuracy 0.100  mia_auc 0.700  hyper")
    # Boxes of 8/9 x 0.1 x 0.6 and 17/27 x 0.5 x 0.9 share one of 17/27 x 0.1 x 0.6.
    assert lines[2].startswith("[3/6] trial 1  accuracy 0.667  robust_accuracy 0.500  mia_auc 0.550  hypervolume 0.299")


@pytest.mark.parametrize("before", [0, 20])
def test_the_hypervolume_of_a_line_is_that_of_all_trials_so_far(before):
    stream, excluding = random.Random(before), next(name for name, flag in FLAGS.items() if flag.excludes)
    ended = [Trial(i, {"epochs": 9}, metrics(stream.random(), stream.random(), 0.5 + stream.random() / 2)) for i in range(60)]
    ended[3::7] = [replace(t, error="TrialError: no") for t in ended[3::7]]
    ended[4::7] = [replace(t, stopped_epoch=3, metrics={**t.metrics, "accuracy": 1.0}) for t in ended[4::7]]
    ended[5::7] = [replace(t, metrics={**t.metrics, "accuracy": 1.0, f"flag/{excluding}": 1.0}) for t in ended[5::7]]
    study = outcome(*ended[:before])
    study.require = (Constraint.of("accuracy>=0.3"),)
    volumes = []
    for line, count in zip(printed(study, ended[before:]).splitlines(), range(before + 1, 61), strict=True):
        if " hypervolume " in line:
            volumes.append(line.split(" hypervolume ")[1])
            assert volumes[-1] == f"{replace(study, trials=ended[:count]).hypervolume():.3f}"
    assert len(set(volumes)) > 5


def test_the_line_of_a_failed_trial_contains_its_error_with_brackets():
    assert printed(outcome(), TRIALS[1:2]) == "[1/6] trial 2 failed: TrialError: not finite: [train_loss]\n"


def test_the_line_of_a_trial_that_was_stopped_early_contains_the_epoch():
    stopped = Trial(3, {"epochs": 30}, stopped_epoch=10)
    assert printed(outcome(), [stopped]) == "[1/6] trial 3 stopped early after epoch 10 of 30: dominated at this rung\n"


def test_a_long_line_is_not_wrapped():
    failed = Trial(3, {}, error="TrialError: " + "very " * 200 + "long")
    assert printed(outcome(), [failed]).count("\n") == 1


def test_nothing_is_printed_before_a_trial_ends():
    assert printed(outcome(), []) == ""


def test_a_terminal_gets_a_table_and_keeps_only_the_lines_of_failed_trials():
    text = printed(outcome(), TRIALS, is_terminal=True)
    assert "\x1b" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "trial 2 failed: TrialError: not finite" in plain and "trial 0 (undefended)" not in plain
    assert "best mia_auc" in plain


def test_the_table_has_the_number_of_trials_by_state_and_the_best_value_of_each_objective():
    study = outcome()
    progress = progress_of(study)
    progress.started(4, {}, "")
    study.trials += TRIALS
    cells = [list(column.cells) for column in progress.table().columns]
    assert cells[:7] == [["2/6"], ["1"], ["0"], ["1"], ["0.900"], ["0.500"], ["0.550"]]


def test_the_table_of_a_study_without_ended_trials_has_dashes():
    cells = [next(iter(column.cells)) for column in progress_of(outcome()).table().columns]
    assert cells == ["0/6", "0", "0", "0", "-", "-", "-", "0.000", "-"]


def test_the_estimated_time_follows_from_the_pace_so_far():
    study = outcome()
    progress = progress_of(study)
    assert progress.eta() == "-"
    study.trials += TRIALS  # three in 90 s, three remain
    progress.start = time.monotonic() - 90.5
    assert progress.eta() == "1:30"


def test_the_estimated_time_ignores_trials_of_an_earlier_driver():
    study = outcome(*TRIALS[:2])
    progress = progress_of(study)
    assert progress.eta() == "-"
    study.trials += TRIALS[2:]  # one in 100 s, three remain
    progress.start = time.monotonic() - 100.2
    assert progress.eta() == "5:00"
