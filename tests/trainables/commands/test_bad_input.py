"""Invalid options: exit code 2 within seconds, one line that names the error, and nothing created.

Errors of files, servers and stored studies are tested in test_bad_places.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_places import Rows, assert_refused
from conditional_study import STUDY as CONDITIONAL

from studies.crl_tradeoff import STUDY

ROOT = Path(__file__).resolve().parents[3]
TOO_MANY = str(2 * (os.cpu_count() or 1))

ROWS: Rows = {
    # flags and their values
    "unknown switch": (["--trails", "9"], ["unrecognized arguments: --trails 9"]),
    "abbreviated switch": (["--trial", "9"], ["unrecognized arguments: --trial 9"]),
    "stray word": (["a\nb"], ["unrecognized arguments: a b"]),
    "switch without its value": (["--dataset"], ["--dataset", "expected one argument"]),
    "unknown preset": (["--preset", "papr"], ["unknown preset 'papr'", "did you mean 'paper'", "dev, photos, paper"]),
    "unknown sampler": (["--sampler", "nsga3"], ["unknown sampler 'nsga3'", "did you mean 'nsga2'", "tpe"]),
    "unknown data set": (
        ["--dataset", "cifar11"],
        ["unknown dataset 'cifar11'", "did you mean 'cifar10", "digits, hard_digits, mnist"],
    ),
    "empty data set": (["--dataset", ""], ["unknown dataset ''", "digits, hard_digits, mnist"]),
    # --set
    "set without equals": (["--set", "epochs"], ["--set takes NAME=VALUE", "'epochs'"]),
    "set without value": (["--set", "epochs="], ["--set takes NAME=VALUE", "'epochs='"]),
    "set without anything": (["--set"], ["--set", "expected at least one argument"]),
    "set twice": (["--set", "epochs=2", "--set", "epochs=3"], ["--set names epochs twice"]),
    "set the data set": (["--set", "dataset=mnist"], ["use --dataset"]),
    "set the seed": (["--set", "seed=3"], ["use --seed"]),
    "unknown setting": (["--set", "epoch=3"], ["unknown setting 'epoch'", "did you mean 'epochs'"]),
    "unknown setting of no slot": (["--set", "epsilon=8"], ["unknown setting 'epsilon'", "judge.epsilon"]),
    "unknown knob": (["--set", "loss.lamda=1"], ["unknown knob of loss=crl: 'lamda'", "did you mean 'lambda'"]),
    "knob of another component": (
        ["--set", "loss.alpha=1"],
        ["unknown knob of loss=crl: 'alpha'", "relaxloss has it"],
    ),
    "knob of a component without knobs": (["--set", "regularizer.lambda=1"], ["knob of regularizer=none", "it has none"]),
    "unknown component": (["--set", "net=resnet19"], ["unknown net 'resnet19'", "did you mean 'resnet18'", "convnet"]),
    "text for a number": (["--set", "loss.lambda=much"], ["loss.lambda takes float, got 'much'"]),
    "fraction by zero": (["--set", "loss.lambda=1/0"], ["loss.lambda takes float, got '1/0'"]),
    "real for a whole number": (["--set", "epochs=2.5"], ["epochs takes int, got '2.5'"]),
    "number for yes or no": (["--set", "normalize=2"], ["normalize takes bool, got '2'"]),
    "unknown suite": (["--set", "judge.suite=stron"], ["judge.suite", "'stron'", "quick, standard, strong"]),
    "space of suites": (["--space", "judge.suite=quick,strong"], ["--space judge.suite", "judge"]),
    "unknown option": (["--set", "judge.norm=l1"], ["judge.norm", "'l1'", "linf, l2"]),
    "epsilon in 255ths": (["--set", "judge.epsilon=8"], ["epsilon=8 is outside [0, 1]", "write 8/255"]),
    "training epsilon in 255ths": (["--set", "perturbation.epsilon=8"], ["epsilon=8 is outside [0, 1]", "write 8/255"]),
    "negative weight": (["--set", "loss.lambda=-1"], ["lambda=-1 is outside [0, inf)"]),
    "share above one": (["--set", "perturbation.alpha=1.5"], ["alpha=1.5 is outside [0, 1]"]),
    "no epochs": (["--set", "epochs=0"], ["epochs=0 is outside [1, inf)"]),
    "batch of one": (["--set", "batch_size=1"], ["batch_size=1 is outside [2, inf)"]),
    "NaN": (["--set", "loss.lambda=nan"], ["loss.lambda takes float, got 'nan'"]),
    "infinity": (["--set", "optimizer.lr=inf"], ["optimizer.lr takes float, got 'inf'"]),
    "schedule of a word": (["--set", "optimizer.schedule=linear"], ["schedule 'linear'", "cosine", "50:0.1"]),
    "schedule of half a pair": (["--set", "optimizer.schedule=50:"], ["cannot read the schedule '50:'"]),
    # --space
    "space of images that choose": (
        ["--set", "selection=accuracy", "--space", "selection.images=10:20"], ["--space selection.images", "all trials"],
    ),
    "space without equals": (["--space", "loss.lambda"], ["--space takes", "'loss.lambda'"]),
    "space that is one number": (["--space", "loss.lambda=1"], ["--space loss.lambda", "LOW:HIGH"]),
    "space of words": (["--space", "loss.lambda=low:high"], ["--space loss.lambda", "'low' is not a number"]),
    "space upside down": (["--space", "loss.lambda=2:1"], ["--space loss.lambda", "low < high"]),
    "space of a point": (["--space", "loss.lambda=1:1"], ["low < high"]),
    "space to infinity": (["--space", "loss.lambda=0:inf"], ["'inf' is not a finite number"]),
    "log space from zero": (["--space", "loss.lambda=0:1:log"], ["a log range needs a positive lower end"]),
    "space that ends in a typo": (["--space", "loss.lambda=1:2:lin"], ["cannot read the range '1:2:lin'"]),
    "space outside the bounds": (
        ["--space", "perturbation.alpha=0.5:1.5"],
        ["space perturbation.alpha", "outside [0, 1]"],
    ),
    "space of reals for a whole number": (["--space", "net.width=8:16:log"], ["net.width takes int, got 8.0"]),
    "space with an illegal option": (["--space", "loss.upper=0.5,2"], ["space loss.upper", "outside [0, 1]"]),
    "space with an option twice": (["--space", "loss.lambda=1,1.0"], ["different options"]),
    "space of an unknown knob": (["--space", "loss.lamda=1:2"], ["'lamda'", "did you mean 'lambda'"]),
    "space of a slot": (["--space", "loss=crl,relaxloss"], ["unknown knob 'loss'"]),
    "space of data sets": (["--space", "dataset=digits,mnist"], ["--space dataset", "same images"]),
    "space of judges": (["--space", "judge.steps=5:10"], ["--space judge.steps", "judge"]),
    "set and searched": (
        ["--set", "net.width=8", "--space", "net.width=8:16"],
        ["net.width is in both --set and --space"],
    ),
    "nothing left to search": (
        [
            "--set",
            "loss.alpha_rce=1",
            "loss.lambda=1",
            "loss.alpha_rcl=0.5",
            "loss.tau_rcl=1",
            "perturbation.epsilon=0",
        ],
        ["nothing is left to search"],
    ),
    # amount of work, and resources
    "no trials": (["--trials", "0"], ["--trials", "0 is less than 1"]),
    "trials in words": (["--trials", "many"], ["--trials", "'many' is not an integer"]),
    "baselines only": (["--trials", "4"], ["--trials 4 is too few", "at least 5"]),
    "negative seed": (["--seed", "-1"], ["--seed", "-1 is less than 0"]),
    "negative workers": (["--workers-per-trial", "-1"], ["--workers-per-trial", "-1 is less than 0"]),
    "no concurrency": (["--concurrency", "0"], ["--concurrency", "0 is less than 1"]),
    "one and a half GPUs": (["--gpus-per-worker", "1.5"], ["--gpus-per-worker", "1.5 is neither a fraction"]),
    "more GPUs for a shadow model than there are": (
        ["--gpus-per-shadow", "99"],
        ["--gpus-per-shadow 99 is more than the", " of this machine"],
    ),
    "shadow models of nothing": (
        ["--shadows", "2", "--no-confirm"],
        ["--shadows audits the networks of the confirmation step", "--no-confirm"],
    ),
    "replicates without confirmation": (
        ["--replicates", "2", "--no-confirm"], ["--replicates is about the confirmation step", "--no-confirm"],
    ),
    "no replicates": (["--replicates", "0"], ["--replicates", "0 is less than 1"]),
    "minus one shadow model": (["--shadows", "-1"], ["--shadows", "-1"]),
    "a shadow model as a study": (["--set", "shadow=1"], ["--set shadow", "--shadows"]),
    "NaN GPUs": (["--gpus-per-worker", "nan"], ["--gpus-per-worker", "'nan' is not a finite number"]),
    "more GPUs than exist": (
        ["--gpus-per-worker", "99"],
        ["--gpus-per-worker 99 is more than the", " of this machine"],
    ),
    "no cores": (["--cpus-per-worker", "0"], ["--cpus-per-worker", "more than 0"]),
    "negative cores": (["--cpus-per-worker", "-1"], ["--cpus-per-worker", "-1 is neither"]),
    "more cores than exist": (
        ["--cpus-per-worker", TOO_MANY],
        [f"--cpus-per-worker {TOO_MANY} is more than the", "CPU cores"],
    ),
    "more workers than cores": (
        ["--workers-per-trial", TOO_MANY],
        [f"{TOO_MANY} x --cpus-per-worker 1 is more than the"],
    ),
    # illegal combinations
    "net too deep for digits": (
        ["--set", "net=vgg11_bn"],
        ["net=vgg11_bn needs images of at least 32x32, these are 8x8"],
    ),
    "residual net too deep": (
        ["--set", "net=resnet18"],
        ["net=resnet18 needs images of at least 16x16", "net=convnet"],
    ),
    "preset for larger images": (
        ["--preset", "paper", "--dataset", "digits"],
        ["net=resnet18 needs images of at least"],
    ),
    "never relaxes": (["--set", "loss.tau_rce=5"], ["loss.tau_rce=5", "alpha_rce=0.7 never relaxes", "lower tau_rce"]),
    "pool too large": (["--set", "pool=5000"], ["pool=5000 is more than the 3594 images of hard_digits"]),
    "parts larger than the pool": (["--set", "split.members=0.9"], ["split: the shares members 0.9", "of the pool"]),
    "more members than images": (["--set", "split.members=2000"], ["(members 2000, ", "images, the pool has 3,594"]),
    "shadow models without images": (["--set", "split.shadow=0", "--shadows", "1"], ["split.shadow=0 leaves no images for shadow"]),
    "pool too small": (["--set", "pool=20"], ["pool=20 is too small", "at least 8 images for each of 10 classes"]),
}
"""Command lines of a study without conditional knobs."""

SWITCHED: Rows = {
    "set a knob that only one option has": (
        ["--set", "loss.alpha_rce=0.5"],
        ["--set loss.alpha_rce: the loss of a trial is searched", "only loss=crl has", "add --set loss=crl"],
    ),
    "set a knob that several options have": (
        ["--set", "perturbation.epsilon=0.01"],
        ["--set perturbation.epsilon: ", "only perturbation=fgsm or pgd has", "add --set perturbation=fgsm"],
    ),
    "set a knob that no option has": (["--set", "loss.lamda=1"], ["none of cross_entropy, relaxloss, crl has such a knob"]),
    "set a knob of another option than is set": (
        ["--set", "loss=cross_entropy", "loss.alpha_rce=0.5"],
        ["unknown knob of loss=cross_entropy: 'alpha_rce'", "crl"],
    ),
    "search a knob that only one option has": (
        ["--space", "loss.lambda=0.1:1:log"],
        ["--space loss.lambda: the loss of a trial is searched", "only loss=crl has", "add --set loss=crl"],
    ),
    "search a knob that is in no option": (["--space", "loss.tau_rce=0.1:1"], ["only loss=crl has", "add --set loss=crl"]),
    "search an option that is not among them": (
        ["--space", "loss=crl,relaxlos"],
        ["unknown option of --space loss 'relaxlos'", "did you mean 'relaxloss'", "cross_entropy, relaxloss, crl"],
    ),
    "search a slot over numbers": (["--space", "loss=1:2"], ["unknown option of --space loss '1'"]),
    "search a slot and set it": (
        ["--set", "loss=crl", "--space", "loss=crl,relaxloss"],
        ["loss is in both --set and --space"],
    ),
    "gp where it is searched which": (
        ["--sampler", "gp"],
        ["--sampler gp cannot search which loss", "use tpe, nsga2, random"],
    ),
    "gp with one slot left": (["--sampler", "gp", "--set", "loss=crl"], ["--sampler gp cannot search which perturbation"]),
}
"""Command lines of a study with a conditional space."""


@pytest.mark.parametrize("case", [*ROWS, *SWITCHED])
def test_an_invalid_option_is_refused_in_one_line_and_nothing_is_created(case, tmp_path, monkeypatch, capfd):
    study = CONDITIONAL if case in SWITCHED else STUDY
    assert_refused(study, *(ROWS | SWITCHED)[case], {}, tmp_path, monkeypatch, capfd)


def test_more_than_seventy_different_command_lines_are_tried():
    assert len({tuple(argv) for argv, _ in ROWS.values()}) == len(ROWS) > 70


def test_a_script_exits_with_code_2(tmp_path):
    script = [sys.executable, str(ROOT / "studies" / "crl_tradeoff.py"), "--dataset", "cifar11"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: unknown dataset 'cifar11'") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
