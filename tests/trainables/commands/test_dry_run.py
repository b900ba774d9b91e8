"""The `--dry-run` of a study."""

import re

import pytest
from conditional_study import STUDY as CONDITIONAL

from studies.crl_tradeoff import STUDY
from trainables.commands import dry_run
from trainables.commands.study import main
from trainables.runs import memory_check


def test_a_dry_run_prints_configuration_space_and_cost_and_creates_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(STUDY, ["--dry-run", "--trials", "10", "--set", "net.width=4", "epochs=50", "loss.lambda=1/8"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err and not list(tmp_path.iterdir())
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == STUDY.question
    assert "net.width = 4" in lines and "loss.lambda = 0.125" in lines and "dataset = hard_digits" in lines
    assert "loss.alpha_rce = 0.7   (searched)" in lines
    assert "loss.alpha_rce = 0.1:1.8:log" in lines and "perturbation.epsilon = 0.0:0.05" in lines  # in the syntax of --space
    assert "undefended: loss=cross_entropy, perturbation=none" in lines
    assert "3,594 images of 8x8 grey in 10 classes, no exact copies" in lines
    assert not any(line.startswith("memory:") for line in lines)  # too small to matter
    assert "10 trials x 50 epochs x 503 members = 251,500 images" in lines, out
    speed = r"images/s measured on one \w+: \d+ s per network, [\d.]+ device hours in total"
    assert any(re.search(speed, line) for line in lines), out
    assert any(line.startswith("confirmation: 3 trainings per front point") for line in lines)


def test_a_dry_run_indents_the_knobs_below_their_options(tmp_path, monkeypatch, capfd):
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
    assert "  measured with loss=cross_entropy, perturbation=none; other components cost more or less" in lines


def test_the_speed_is_measured_on_batches_that_need_little_memory(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory_check, "MAX_KEPT", 10**9)  # as if the images were large
    monkeypatch.setattr(dry_run, "MAX_BYTES", 200_000)
    with pytest.raises(SystemExit) as exit_info:
        main(STUDY, ["--dry-run", "--set", "net.width=4", "batch_size=128"])
    out, err = capfd.readouterr()
    assert exit_info.value.code == 0 and not err
    assert re.search(r"memory: at least [\d.e-]+ GiB per trial, for (training|attacks) on batches of \d+", out), out
    (batch,) = re.findall(r"the speed was measured on batches of (\d+), to save memory", out)
    assert 2 <= int(batch) < 128
