"""The options of a study's command and the plan that they describe."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from command_lines import plan
from conditional_study import STUDY as CONDITIONAL

from core import data
from core.errors import InputError
from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from studies.crl_tradeoff import STUDY
from trainables.commands.arguments import assignments
from trainables.commands.study import main, parser

FLAGS = {
    "--preset", "--trials", "--seed", "--sampler", "--set", "--space", "--dataset", "--data-dir", "--address",
    "--workers-per-trial", "--gpus-per-worker", "--cpus-per-worker", "--concurrency", "--storage", "--tracking-uri",
    "--resume", "--no-confirm", "--replicates", "--dry-run", "--shadows", "--gpus-per-shadow",
    "--recipe", "--require", "--seeds-per-trial", "--early-stopping", "--quiet", "--json",
}  # fmt: skip


def test_the_flags_are_those_of_the_design():
    assert {flag for action in parser(STUDY)._actions for flag in action.option_strings} == FLAGS | {"-h", "--help"}


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(STUDY, ["--help"])
    out = capsys.readouterr().out
    assert exit_info.value.code == 0 and STUDY.question in " ".join(out.split())
    assert all(flag in out for flag in FLAGS)


def test_help_fills_in_all_placeholders(capsys):
    with pytest.raises(SystemExit):
        main(STUDY, ["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "{" not in out and "dev, photos or paper (default: dev" in out and "gp for up to 50 trials" in out


def test_without_options_the_plan_is_that_of_the_dev_preset():
    planned, preset = plan(), STUDY.presets["dev"]
    assert (planned.config, planned.trials, planned.confirm, planned.replicates) == (
        preset.config, preset.trials, preset.confirm, preset.replicates,
    )  # fmt: skip
    assert (planned.sampler, planned.seed, planned.study) == ("gp", 0, "crl_tradeoff")
    assert planned.space == STUDY.space(preset.config) and planned.requested == {}


def test_options_change_the_amount_of_work():
    planned = plan("--preset", "paper", "--trials", "11", "--seed", "5", "--sampler", "nsga2", "--no-confirm")
    assert (planned.trials, planned.seed, planned.sampler, planned.replicates) == (11, 5, "nsga2", 0)
    assert planned.config == STUDY.presets["paper"].config


def test_the_default_sampler_suits_the_number_of_trials_and_the_space():
    assert [plan("--trials", n).sampler for n in ("50", "51")] == ["gp", "tpe"]
    assert plan(study=CONDITIONAL).sampler == "tpe"
    assert plan("--set", "loss=crl", "perturbation=pgd", study=CONDITIONAL).sampler == "gp"


def test_every_run_of_a_study_has_its_own_name():
    names = {plan().name for _ in range(20)}
    assert len(names) == 20 and all(re.fullmatch(r"crl_tradeoff-\d{8}-\d{6}-[0-9a-f]{4}", name) for name in names)


def test_replicates_are_those_of_the_preset_unless_there_is_no_confirmation_or_another_number_is_given():
    assert [plan("--preset", "paper", *more).replicates for more in ([], ["--replicates", "2"], ["--no-confirm"])] == [5, 2, 0]
    assert plan().contrasts == STUDY.contrasts


def test_shadow_models_are_those_of_the_preset_unless_there_is_no_confirmation_or_another_number_is_given():
    assert [plan("--preset", "paper", *more).shadows for more in ([], ["--shadows", "2"], ["--no-confirm"])] == [5, 2, 0]


# ---------------------------------------------------------------- --set and --space


def test_set_parses_fractions_powers_booleans_and_words():
    config = plan(
        "--set", "judge.epsilon=8/255", "optimizer.lr=1e-3", "normalize=FALSE", "--set", "net=allconv", "net.width=9"
    ).config
    assert config.judge.epsilon == 8 / 255 and config.optimizer.lr == 1e-3 and config.normalize is False
    assert config.params()["net"] == "allconv" and config.net.width == 9


def test_a_value_may_contain_an_equals_sign():
    assert assignments(["a=b=c"], "--set") == {"a": "b=c"}


def test_a_setting_that_is_fixed_is_not_searched():
    planned = plan("--set", "loss.lambda=0.25")
    assert "loss.lambda" not in planned.space and planned.config.loss.lambda_ == 0.25
    assert set(planned.space) == set(plan().space) - {"loss.lambda"}


def test_space_replaces_a_range_and_adds_others():
    planned = plan("--space", "loss.lambda=1/4:2:log", "net.width=4:8", "--space", "perturbation.steps=1,3", "loss.tau_rcl=1:2")
    assert planned.space == STUDY.space(planned.config) | {
        "loss.lambda": LogUniform(0.25, 2.0), "net.width": IntRange(4, 8), "perturbation.steps": Choice((1, 3)),
        "loss.tau_rcl": Uniform(1.0, 2.0),
    }  # fmt: skip
    assert isinstance(planned.space["loss.tau_rcl"], Uniform)


@pytest.mark.parametrize("name", [
    "dataset=digits,mnist", "pool=100:200", "split=paper,stratified", "split.members=0.1:0.2", "replicate=0:3", "seed=0:9",
    "judge.epsilon=0.1:0.2", "judge.part=val,test",
])  # fmt: skip
def test_settings_that_make_trials_comparable_cannot_be_searched(name):
    with pytest.raises(InputError, match=f"--space {name.partition('=')[0]}: all trials"):
        plan("--space", name)


# ---------------------------------------------------------------- conditional spaces


def test_the_knobs_of_a_slot_that_is_fixed_become_ordinary_ranges():
    whole = plan(study=CONDITIONAL).space
    planned = plan("--set", "loss=crl", study=CONDITIONAL)
    assert planned.config.params()["loss"] == "crl"
    assert planned.space == {**whole["loss"].options["crl"], **{name: s for name, s in whole.items() if name != "loss"}}
    both = plan("--set", "loss=crl", "perturbation=pgd", "--sampler", "gp", study=CONDITIONAL)
    assert set(both.space) == {
        "loss.alpha_rce", "loss.lambda", "perturbation.epsilon", "perturbation.steps", "optimizer.lr",
    }  # fmt: skip
    assert set(plan("--set", "loss=cross_entropy", study=CONDITIONAL).space) == {"perturbation", "optimizer.lr"}
    assert set(plan("--set", "loss=centre_loss", study=CONDITIONAL).space) == {"perturbation", "optimizer.lr"}  # is no option


def test_knobs_of_a_slot_that_is_fixed_can_be_fixed_and_given_another_range():
    planned = plan("--set", "loss=crl", "loss.alpha_rce=1/2", "--space", "loss.lambda=1:2", study=CONDITIONAL)
    assert planned.config.loss.alpha_rce == 0.5 and "loss.alpha_rce" not in planned.space
    assert planned.space["loss.lambda"] == Uniform(1.0, 2.0)


def test_space_can_select_some_options_of_a_switch():
    planned = plan("--space", "loss=crl,cross_entropy", "perturbation=pgd,", study=CONDITIONAL)
    whole = plan(study=CONDITIONAL).space
    assert planned.space["loss"] == Switch({name: whole["loss"].options[name] for name in ("cross_entropy", "crl")})
    assert list(planned.space["perturbation"].options) == ["pgd"]


def test_a_knob_of_all_options_can_be_searched_outside_the_switch_over_another_range_but_not_fixed():
    shared = {"perturbation": Switch({"fgsm": {}, "pgd": {}}), "perturbation.epsilon": Uniform(0.0, 0.1)}
    study = replace(CONDITIONAL, space=lambda config: shared, baselines={})
    assert plan(study=study).space == shared
    assert plan("--space", "perturbation.epsilon=0:0.2", study=study).space["perturbation.epsilon"] == Uniform(0.0, 0.2)
    with pytest.raises(InputError, match=r"--set perturbation\.epsilon: the perturbation of a trial is searched"):
        plan("--set", "perturbation.epsilon=0.1", study=study)  # it would hold for the preset's own component only


# ---------------------------------------------------------------- --dataset


@pytest.mark.parametrize("dataset", [*data.DATASETS, "parquet:/somewhere"])
def test_a_data_set_is_evaluated_at_its_default_radius(dataset):
    planned = plan("--dataset", dataset)
    radius = data.DATASETS[dataset].epsilon if dataset in data.DATASETS else 8 / 255
    assert planned.config.dataset == dataset and planned.config.judge.epsilon == radius
    assert planned.space["perturbation.epsilon"] == Uniform(0.0, radius)
    assert planned.baselines["adversarial training alone"]["perturbation.epsilon"] == radius


def test_a_radius_that_is_set_replaces_that_of_the_data_set():
    planned = plan("--dataset", "mnist", "--set", "judge.epsilon=0.2")
    assert planned.config.judge.epsilon == 0.2 and planned.space["perturbation.epsilon"] == Uniform(0.0, 0.2)
    assert planned.baselines["adversarial training alone"]["perturbation.epsilon"] == 0.2


def test_baselines_have_the_norm_and_the_radius_of_the_threat_model():
    l2 = ("--set", "judge.norm=l2", "judge.epsilon=1.5")
    planned = plan(*l2, "perturbation.norm=l2")
    assert planned.space["perturbation.epsilon"] == Uniform(0.0, 1.5)
    baseline = planned.configured(planned.baselines["adversarial training alone"]).perturbation
    assert (baseline.norm, baseline.epsilon) == ("l2", 1.5)
    with pytest.raises(InputError, match=r"perturbation.epsilon=1.5 is outside \[0, 1\].*only norm=l2 has longer ones"):
        plan(*l2, "perturbation.norm=linf")


def test_a_folder_of_images_is_stored_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan("--dataset", "parquet:sets/mine").config.dataset == f"parquet:{tmp_path}/sets/mine"


# ---------------------------------------------------------------- errors


def test_invalid_options_are_refused_without_loading_ray(tmp_path):
    code = "import sys; from studies.crl_tradeoff import STUDY; from trainables.commands.study import main\n"
    code += "try: main(STUDY, ['--trials', 'x'])\n"
    code += "except SystemExit: print(sorted({'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_error_message_contains_no_password_of_a_uri(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(STUDY, ["--tracking-uri", "postgresql://me:secret@127.0.0.1:9/db"])
    err = capsys.readouterr().err
    assert "127.0.0.1:9" in err and "secret" not in err
