"""Tests of what studies/rejudge.py refuses."""

from pathlib import Path

import finished
import pytest

from trainables.commands import rejudge

ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no study": (["--suite", "strong"], ["the following arguments are required: STUDY"]),
    "no suite": (["s-1"], ["the following arguments are required: --suite"]),
    "unknown suite": (["s-1", "--suite", "stron"], ["unknown suite 'stron' (did you mean 'strong'?)", "quick, standard, strong"]),
    "unknown study": (["s-2", "--suite", "strong"], ["no study 's-2' in --storage runs, expected one of: half, s-1"]),
    "study outside of the storage": (["../runs/s-1", "--suite", "strong"], ["no study '../runs/s-1'"]),
    "unknown option": (["s-1", "--suite", "strong", "--trials", "3"], ["unrecognized arguments: --trials 3"]),
    "several workers": (["s-1", "--suite", "strong", "--workers-per-trial", "2"], ["unrecognized arguments"]),
    "trial is no number": (["s-1", "--suite", "strong", "--transfer-from", "best"], ["'best' is not an integer"]),
    "negative trial": (["s-1", "--suite", "strong", "--transfer-from", "-1"], ["--transfer-from", "-1 is less than 0"]),
    "no such trial": (["s-1", "--suite", "strong", "--transfer-from", "9"], ["--transfer-from 9", "expected one of: 0, 1, 2"]),
    "unfinished study": (["half", "--suite", "strong"], ["half is not finished, 2 of its 3 trials", "studies/s.py --resume half"]),
    "no concurrency": (["s-1", "--suite", "strong", "--concurrency", "0"], ["--concurrency", "0 is less than 1"]),
    "no CPU cores": (["s-1", "--suite", "strong", "--cpus-per-worker", "0"], ["--cpus-per-worker", "more than 0"]),
    "too many GPUs": (["s-1", "--suite", "strong", "--gpus-per-worker", "99"], ["is more than the", " of this machine"]),
    "tracking in a folder": (["s-1", "--suite", "strong", "--tracking-uri", "mlruns"], ["is none of: sqlite:///FILE"]),
    "empty storage": (["s-1", "--suite", "strong", "--storage", "elsewhere"], ["no study 's-1' in --storage elsewhere"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """The directory of a finished study and of one that is not."""
    cwd = tmp_path_factory.mktemp("studies")
    finished.study(cwd / "runs")
    finished.study(cwd / "runs", finished.plan(name="half")).discard("trials/00001/result.json")
    return cwd


@pytest.mark.parametrize("case", ROWS)
def test_invalid_input_is_refused_in_one_line_and_changes_nothing(case, studies, monkeypatch, capfd):
    finished.refuses(rejudge.main, *ROWS[case], studies, monkeypatch, capfd)
