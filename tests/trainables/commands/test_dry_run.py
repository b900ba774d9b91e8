"""The `--dry-run` of a study."""

import os
import re
from dataclasses import replace

import pytest
from conditional_study import STUDY as CONDITIONAL

from core.study import CONFIRM
from studies.crl_tradeoff import STUDY
from trainables.commands import dry_run
from trainables.commands.study import main
from trainables.study.site import Site

QUICK = replace(
    STUDY, baselines={"undefended": STUDY.baselines["undefended"]}, contrasts=(),
    presets={"dev": replace(STUDY.presets["dev"], confirm={**CONFIRM, "judge.suite": "quick"})},
)  # fmt: skip
"""A study with one baseline and a short attack suite in the confirmation step."""


@pytest.fixture
def enough_time(monkeypatch):
    """Time to measure all configurations, also if other processes use the cores."""
    monkeypatch.setattr(dry_run, "MIN_SECONDS", 120)


@pytest.mark.thorough
def test_a_dry_run_prints_configuration_space_and_cost_and_creates_nothing(tmp_path, monkeypatch, capfd, enough_time):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(QUICK, ["--dry-run", "--trials", "10", "--shadows", "2", "--set", "net.width=4", "epochs=12", "loss.lambda=1/8"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err and not list(tmp_path.iterdir())
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == STUDY.question
    assert "net.width = 4" in lines and "loss.lambda = 0.125" in lines and "dataset = hard_digits" in lines
    assert "loss.alpha_rce = 0.7   (searched)" in lines
    assert "loss.alpha_rce = 0.1:1.8:log" in lines and "perturbation.epsilon = 0.0:0.05" in lines  # in the syntax of --space
    assert "undefended: loss=cross_entropy, perturbation=none, regularizer=none" in lines
    assert "3,594 images of 8x8 grey in 10 classes, no exact copies" in lines
    assert "sweep: 10 trials x 12 epochs x 503 members = 60,360 training images" in lines, out
    number = r"[\d.,]+ (?:s|min|h)"
    for pattern in (
        rf"measuring 4 configurations, {os.cpu_count()} at a time, for at most 120 s",
        rf"undefended: training {number}, evaluation in the sweep {number}, evaluation in the confirmation step {number}.*",
        rf"10 networks, each {number} of training and {number} of attacks and audits: {number} of device time",
        r"front: 5 to 7 of 10 trials are expected on it, as for 3 to 4 independent objectives",
        r"confirmation: 6 to 7 points \(front and all baselines\), 2 to 3 replicates each",
        rf"11 to 22 networks, each {number} of training, {number} of attacks, {number} of audits and {number} of audits by "
        rf"other networks: {number} to {number} of device time",
        r"each of them is audited on its own, and then by 1 other replicate of its point and 2 shadow models",
        r"shadow models: 2 per point",
        rf"11 to 14 networks, each {number} of training and {number} of queries: {number} to {number} of device time",
        rf"{2 * (os.cpu_count() or 1)} starts of worker processes, {number} each: {number} of device time",
        rf"device time: {number} to {number} in total, as if one network were trained and evaluated at a time",
        rf"wall time: .*, {os.cpu_count()} trials at a time; .* of it for the start, the suggestions, waiting and the report",
        r"disk: [\d.]+ MB to [\d.]+ MB, for networks, their outputs, the report and MLflow",
        rf"memory: about [\d.]+ GiB in total; [\d.]+ GiB for each of {os.cpu_count()} trials at a time, mostly for libraries",
    ):
        assert any(re.fullmatch(pattern, line) for line in lines), f"{pattern}\n{out}"
    assert lines[lines.index("resolution") + 1] == "sweep: 503 members and 1,006 non-members, 300 of them attacked"


@pytest.mark.thorough
def test_a_dry_run_indents_the_knobs_below_their_options(tmp_path, monkeypatch, capfd, enough_time):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(CONDITIONAL, ["--dry-run"])
    lines = capfd.readouterr().out.splitlines()
    assert exit_info.value.code == 0
    start, stop = lines.index("space"), lines.index("baselines")
    assert lines[start + 1 : stop] == [
        "  loss = one of", "    cross_entropy", "    relaxloss", "      loss.alpha = 0.05:3.0:log", "    crl",
        "      loss.alpha_rce = 0.1:1.8:log", "      loss.lambda = 0.001:10.0:log",
        "  perturbation = one of", "    none", "    fgsm", "      perturbation.epsilon = 0.0:0.05", "    pgd",
        "      perturbation.epsilon = 0.05:0.1", "      perturbation.steps = 1,2", "  optimizer.lr = 0.01:0.1:log",
    ]  # fmt: skip
    assert "  loss = cross_entropy   (searched)" in lines and "  perturbation = none   (searched)" in lines
    assert "    these are means over the options of loss and perturbation that were measured" in lines
    assert "  confirmation: none" in lines


def test_what_needs_no_time_is_printed_also_if_nothing_was_measured(tmp_path, monkeypatch, capfd):
    """No process has loaded torch after one second."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(QUICK, ["--dry-run", "1", "--trials", "10", "--shadows", "2"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err and not list(tmp_path.iterdir())
    lines = [line.strip() for line in out[out.index("cost\n") :].splitlines()]
    assert lines[:15] == [
        "cost",
        f"measuring 4 configurations, {os.cpu_count()} at a time, for at most 1 s",
        "nothing was measured within 1 s, so device time and wall time are not known: try again when this machine is less busy, or "
        "measure for longer with --dry-run 300",
        "sweep: 10 trials x 30 epochs x 503 members = 150,900 training images",
        "10 networks",
        "front: 5 to 7 of 10 trials are expected on it, as for 3 to 4 independent objectives",
        "confirmation: 6 to 7 points (front and all baselines), 2 to 3 replicates each",
        "11 to 22 networks",
        "each of them is audited on its own, and then by 1 other replicate of its point and 2 shadow models",
        "shadow models: 2 per point",
        "11 to 14 networks",
        *lines[11:13],
        "resolution",
        "sweep: 503 members and 1,006 non-members, 300 of them attacked",
    ]
    assert re.fullmatch(r"disk: \d+ MB to \d+ MB, for networks, their outputs, the report and MLflow", lines[11])
    assert re.fullmatch(
        r"memory: at least [\d.]+ GiB in total; [\d.]+ GiB for each of .* trials at a time, mostly for libraries", lines[12]
    )


def test_the_time_for_measuring_is_at_least_one_second(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(QUICK, ["--dry-run", "0"])
    assert exit_info.value.code == 2 and "0 is less than 1" in capsys.readouterr().err


def test_measuring_ends_within_a_minute_of_the_start_of_the_command():
    assert dry_run.seconds_left(age=5) == dry_run.SECONDS == 40
    assert dry_run.seconds_left(age=20.5) == 33 and dry_run.seconds_left(age=300) == 15
    assert 0 < dry_run.process_age() < 24 * 3600


def test_on_a_cluster_this_machine_need_not_be_able_to_run_a_trial():
    assert dry_run.resources(Site(address="head:6379", gpus_per_worker=8, concurrency=16))[1] == 16
    assert dry_run.resources(Site(concurrency=1))[1] == 1
    assert dry_run.resources(Site())[1] == os.cpu_count()
