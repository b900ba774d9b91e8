"""What the switches mean, and that looking costs nothing."""

import ast
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core import data
from core.config import Study
from core.errors import InputError
from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from studies import crl_tradeoff
from studies.crl_tradeoff import STUDY
from trainables import cli, launch, preflight
from trainables.cluster import Room, concurrency, share_of
from trainables.plan import Plan, Site
from trainables.trial import Share

CONDITIONAL = runpy.run_path(str(Path(__file__).with_name("conditional_study.py")))["STUDY"]
STUDIES = Path(crl_tradeoff.__file__).parent
SWITCHES = {
    "--preset", "--trials", "--seed", "--sampler", "--set", "--space", "--dataset", "--data-dir", "--address",
    "--workers-per-trial", "--gpus-per-worker", "--cpus-per-worker", "--concurrency", "--storage", "--tracking-uri",
    "--resume", "--no-confirm", "--dry-run", "--shadows", "--gpus-per-shadow",
    "--require", "--seeds-per-trial", "--early-stopping", "--quiet", "--json",
}  # fmt: skip


def plan(*argv: str, study: Study = STUDY) -> Plan:
    return cli.plan_of(study, cli.parser(study).parse_args(argv))


def site(*argv: str) -> Site:
    return cli.site_of(cli.parser(STUDY).parse_args(argv))


def test_the_switches_are_those_of_the_design():
    assert {s for action in cli.parser(STUDY)._actions for s in action.option_strings} == SWITCHES | {"-h", "--help"}


def test_help_names_every_switch(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(STUDY, ["--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0 and STUDY.question in " ".join(out.split())
    assert all(switch in out for switch in SWITCHES)


def test_no_switch_is_the_dev_preset():
    made, preset = plan(), STUDY.presets["dev"]
    assert (made.config, made.trials, made.confirm, made.replicates) == (
        preset.config,
        preset.trials,
        preset.confirm,
        preset.replicates,
    )
    assert (made.sampler, made.seed, made.study) == ("gp", 0, "crl_tradeoff")
    assert made.space == STUDY.space(preset.config)


def test_switches_say_how_much():
    made = plan("--preset", "paper", "--trials", "11", "--seed", "5", "--sampler", "nsga2", "--no-confirm")
    assert (made.trials, made.seed, made.sampler, made.replicates) == (11, 5, "nsga2", 0)
    assert made.config == STUDY.presets["paper"].config


def test_the_sampler_is_the_one_that_was_best_for_so_many_trials_and_can_search_the_space():
    assert [plan("--trials", n).sampler for n in ("50", "51")] == ["gp", "tpe"]
    assert plan(study=CONDITIONAL).sampler == "tpe"
    assert plan("--set", "loss=crl", "perturbation=pgd", study=CONDITIONAL).sampler == "gp"


def test_every_study_has_a_name_of_its_own():
    names = {plan().name for _ in range(20)}
    assert len(names) == 20 and all(re.fullmatch(r"crl_tradeoff-\d{8}-\d{6}-[0-9a-f]{4}", name) for name in names)


# ---------------------------------------------------------------- --set and --space


def test_set_reads_fractions_powers_truth_and_words():
    config = plan(
        "--set", "judge.epsilon=8/255", "optimizer.lr=1e-3", "normalize=FALSE", "--set", "net=allconv", "net.width=9"
    ).config
    assert config.judge.epsilon == 8 / 255 and config.optimizer.lr == 1e-3 and config.normalize is False
    assert config.params()["net"] == "allconv" and config.net.width == 9


def test_a_value_may_hold_an_equals_sign():
    assert cli.assignments(["a=b=c"], "--set") == {"a": "b=c"}


def test_what_is_set_is_not_searched():
    made = plan("--set", "loss.lambda=0.25")
    assert "loss.lambda" not in made.space and made.config.loss.lambda_ == 0.25
    assert set(made.space) == set(plan().space) - {"loss.lambda"}


def test_space_replaces_a_range_and_adds_others():
    made = plan("--space", "loss.lambda=1/4:2:log", "net.width=4:8", "--space", "perturbation.steps=1,3", "loss.tau_rcl=1:2")
    assert made.space == STUDY.space(made.config) | {
        "loss.lambda": LogUniform(0.25, 2.0), "net.width": IntRange(4, 8), "perturbation.steps": Choice((1, 3)),
        "loss.tau_rcl": Uniform(1.0, 2.0),
    }  # fmt: skip
    assert isinstance(made.space["loss.tau_rcl"], Uniform)


@pytest.mark.parametrize("name", [
    "dataset=digits,mnist", "pool=100:200", "split=paper,stratified", "replicate=0:3", "seed=0:9",
    "judge.epsilon=0.1:0.2", "judge.part=val,test",
])  # fmt: skip
def test_what_makes_trials_comparable_cannot_be_searched(name):
    with pytest.raises(InputError, match=f"--space {name.partition('=')[0]}: all trials"):
        plan("--space", name)


# ---------------------------------------------------------------- conditional spaces


def test_a_slot_that_is_set_leaves_the_knobs_of_that_option_as_ranges_like_others():
    whole = plan(study=CONDITIONAL).space
    made = plan("--set", "loss=crl", study=CONDITIONAL)
    assert made.config.params()["loss"] == "crl"
    assert made.space == {**whole["loss"].options["crl"], **{name: s for name, s in whole.items() if name != "loss"}}
    both = plan("--set", "loss=crl", "perturbation=pgd", "--sampler", "gp", study=CONDITIONAL)
    assert set(both.space) == {
        "loss.alpha_rce", "loss.lambda", "perturbation.epsilon", "perturbation.steps", "optimizer.lr",
    }  # fmt: skip
    assert set(plan("--set", "loss=cross_entropy", study=CONDITIONAL).space) == {"perturbation", "optimizer.lr"}
    assert set(plan("--set", "loss=centre_loss", study=CONDITIONAL).space) == {"perturbation", "optimizer.lr"}  # no option of it


def test_knobs_of_a_slot_that_is_set_can_be_set_and_searched_otherwise():
    made = plan("--set", "loss=crl", "loss.alpha_rce=1/2", "--space", "loss.lambda=1:2", study=CONDITIONAL)
    assert made.config.loss.alpha_rce == 0.5 and "loss.alpha_rce" not in made.space
    assert made.space["loss.lambda"] == Uniform(1.0, 2.0)


def test_space_can_leave_fewer_options():
    made = plan("--space", "loss=crl,cross_entropy", "perturbation=pgd,", study=CONDITIONAL)
    whole = plan(study=CONDITIONAL).space
    assert made.space["loss"] == Switch({name: whole["loss"].options[name] for name in ("cross_entropy", "crl")})
    assert list(made.space["perturbation"].options) == ["pgd"]


def test_a_knob_that_all_options_have_can_stand_beside_the_switch_and_get_another_range():
    shared = {"perturbation": Switch({"fgsm": {}, "pgd": {}}), "perturbation.epsilon": Uniform(0.0, 0.1)}
    study = replace(CONDITIONAL, space=lambda config: shared, baselines={})
    assert plan(study=study).space == shared
    assert plan("--space", "perturbation.epsilon=0:0.2", study=study).space["perturbation.epsilon"] == Uniform(0.0, 0.2)
    with pytest.raises(InputError, match=r"--set perturbation\.epsilon: it is searched which perturbation"):
        plan("--set", "perturbation.epsilon=0.1", study=study)  # it would hold for the preset's own filling only


def test_every_option_is_tried_on_the_images_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = replace(CONDITIONAL, space=lambda config: {"net": Switch({"convnet": {}, "vgg11_bn": {}})}, baselines={})
    with pytest.raises(InputError, match="net=vgg11_bn needs images of at least"):
        preflight.check(plan(study=study), Site())
    assert not list(tmp_path.iterdir())


def test_a_dry_run_nests_the_knobs_below_their_options(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(CONDITIONAL, ["--dry-run"])
    lines = capfd.readouterr().out.splitlines()
    assert left.value.code == 0
    start, stop = lines.index("space"), lines.index("baselines")
    assert lines[start + 1 : stop] == [
        "  loss = one of", "    cross_entropy", "    relaxloss", "      loss.alpha = 0.05:3.0:log", "    crl",
        "      loss.alpha_rce = 0.1:1.8:log", "      loss.lambda = 0.001:10.0:log",
        "  perturbation = one of", "    none", "    fgsm", "      perturbation.epsilon = 0.0:0.05", "    pgd",
        "      perturbation.epsilon = 0.05:0.1", "      perturbation.steps = 1,2", "  optimizer.lr = 0.01:0.1:log",
    ]  # fmt: skip
    assert "  loss = cross_entropy   (searched)" in lines and "  perturbation = none   (searched)" in lines
    assert "  measured with loss=cross_entropy, perturbation=none; other fillings cost more or less" in lines


# ---------------------------------------------------------------- --dataset


@pytest.mark.parametrize("dataset", [*data.DATASETS, "parquet:/somewhere"])
def test_a_data_set_is_judged_at_its_usual_radius(dataset):
    made = plan("--dataset", dataset)
    usual = data.DATASETS[dataset].epsilon if dataset in data.DATASETS else 8 / 255
    assert made.config.dataset == dataset and made.config.judge.epsilon == usual
    assert made.space["perturbation.epsilon"] == Uniform(0.0, usual)
    assert made.baselines["adversarial training alone"]["perturbation.epsilon"] == usual


def test_a_radius_that_is_set_wins():
    made = plan("--dataset", "mnist", "--set", "judge.epsilon=0.2")
    assert made.config.judge.epsilon == 0.2 and made.space["perturbation.epsilon"] == Uniform(0.0, 0.2)
    assert made.baselines["adversarial training alone"]["perturbation.epsilon"] == 0.2


def test_a_folder_of_images_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan("--dataset", "parquet:sets/mine").config.dataset == f"parquet:{tmp_path}/sets/mine"


# ---------------------------------------------------------------- where


def test_where_switches_make_a_site():
    made = site("--address", "auto", "--workers-per-trial", "2", "--gpus-per-worker", "1/4", "--cpus-per-worker", "2",
                "--concurrency", "3", "--storage", "s3://b/x", "--tracking-uri", "http://h:5000",
                "--data-dir", "d", "--gpus-per-shadow", "1/8")  # fmt: skip
    assert made == Site("auto", 2, 2.0, 0.25, 0.125, 3, "s3://b/x", "http://h:5000", "d")


def test_a_trial_gets_a_gpu_where_there_are_any_unless_told_otherwise():
    assert share_of(site(), {"CPU": 2.0}).gpus == 0
    assert share_of(site("--address", "auto"), {"CPU": 8.0, "GPU": 4.0}).gpus == 1
    assert share_of(site("--workers-per-trial", "2"), {"CPU": 8.0, "GPU": 1.0}).gpus == 0.5
    assert share_of(site("--gpus-per-worker", "0"), {"CPU": 8.0, "GPU": 4.0}).gpus == 0
    with pytest.raises(InputError, match="more than the 0 GPUs of the cluster"):
        share_of(site("--address", "auto", "--gpus-per-worker", "1"), {"CPU": 8.0})


@pytest.mark.parametrize("cpus, gpus, most, trials", [(1, 0, 0, 8), (2, 0, 0, 4), (1, 0.25, 0, 4), (1, 0.25, 3, 3), (8, 0, 0, 1)])
def test_as_many_trials_at_a_time_as_fit(cpus, gpus, most, trials):
    assert concurrency(Share(0, cpus, gpus), {"CPU": 8.0, "GPU": 1.0}, most) == trials


def test_a_cluster_that_can_grow_is_asked_for_as_many_trials_as_the_user_wants_or_one_more_than_fit(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    share = Share(0, 1.0, 1.0)
    assert [Room(share, site("--address", "auto", *more))() for more in (["--concurrency", "6"], [])] == [6, 3]
    assert [Room(share, site(*more))() for more in (["--concurrency", "6"], [])] == [2, 2]


def test_the_command_to_go_on_reads_back_as_the_same_site():
    made = site("--address", "h:1", "--workers-per-trial", "2", "--storage", "a b", "--tracking-uri", "sqlite:///my.db",
                "--data-dir", "d", "--gpus-per-worker", "0", "--concurrency", "3")  # fmt: skip
    words = shlex.split(launch.resume_command(plan(), made))
    assert words[0] == sys.executable and words[1].endswith(".py") and words[2] == "--resume"
    args = cli.parser(STUDY).parse_args(words[2:])
    assert cli.site_of(args) == made and not cli._changed(STUDY, args)


def test_what_switches_do_not_go_with_resume():
    args = cli.parser(STUDY).parse_args(
        ["--resume", "x", "--trials", "5", "--set", "epochs=3", "--no-confirm", "--concurrency", "2"]
    )
    assert cli._changed(STUDY, args) == ["--trials", "--set", "--no-confirm"]


# ---------------------------------------------------------------- --dry-run


def test_a_dry_run_shows_configuration_space_and_cost_and_creates_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(STUDY, ["--dry-run", "--trials", "10", "--set", "net.width=4", "epochs=50", "loss.lambda=1/8"])
    out, err = capfd.readouterr()
    assert left.value.code == 0 and not err and not list(tmp_path.iterdir())
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == STUDY.question
    assert "net.width = 4" in lines and "loss.lambda = 0.125" in lines and "dataset = digits" in lines
    assert "loss.alpha_rce = 0.5   (searched)" in lines
    assert "loss.alpha_rce = 0.1:1.8:log" in lines and "perturbation.epsilon = 0.0:0.1" in lines  # as --space reads
    assert "undefended: loss=cross_entropy, perturbation=none" in lines
    assert any(re.fullmatch(r"10 trials x 50 epochs x 449 members = 224,500 images", line) for line in lines), out
    assert any(re.search(r"images/s on one \w+ as measured: \d+ s a network, [\d.]+ device hours", line) for line in lines)
    assert any(line.startswith("confirm: 3 trainings per front point") for line in lines)


def test_words_that_are_wrong_are_refused_without_loading_ray(tmp_path):
    code = "import sys; from studies.crl_tradeoff import STUDY; from trainables.cli import main\n"
    code += "try: main(STUDY, ['--trials', 'x'])\n"
    code += "except SystemExit: print(sorted({'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# ---------------------------------------------------------------- the studies


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.py")), ids=lambda path: path.stem)
def test_a_study_says_how_it_is_run(path):
    tree = ast.parse(path.read_text())
    if path.stem == "__init__":
        return
    doc = ast.get_docstring(tree) or ""
    assert f"python studies/{path.name}" in doc and doc.splitlines()[0].endswith(("?", "."))


@pytest.mark.parametrize(
    "path", [p for p in sorted(STUDIES.glob("*.py")) if "STUDY = " in p.read_text()], ids=lambda path: path.stem
)
def test_a_study_is_named_as_its_file_and_can_be_planned(path):
    study = importlib.import_module(f"studies.{path.stem}").STUDY
    assert isinstance(study, Study) and study.name == path.stem and study.question.endswith("?")
    assert path.read_text().rstrip().endswith('if __name__ == "__main__":\n    main(STUDY)')
    for preset in study.presets:
        made = cli.plan_of(study, cli.parser(study).parse_args(["--preset", preset]))
        assert made.trials > len(made.baselines) and made.space


def test_no_password_of_a_url_is_printed_or_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri = "postgresql://me:secret@127.0.0.1:9/db"
    with pytest.raises(SystemExit):
        cli.main(STUDY, ["--tracking-uri", uri])
    assert "secret" not in capsys.readouterr().err
    assert "secret" not in launch.facts(["x.py", "--tracking-uri", uri])["command"]
    assert "secret" not in launch.resume_command(plan(), site("--tracking-uri", uri))
