"""Tests of studies/recipes_table.py, as its documentation runs it, on digits."""

import re

import pytest
from files import modified
from in_process import local_executor
from splits import digits_with_a_test_file

from core.config import TrialConfig
from core.data import split
from core.errors import InputError
from core.recipes import RECIPES, method_of
from core.small_recipes import SMALL
from core.space import Value
from studies import recipes_table

SCRIPT = "studies/recipes_table.py"


@pytest.mark.parametrize("norm, radius", [("l2", "1.5"), ("l2", "3.0"), ("linf", "0.2")])
def test_every_row_has_the_threat_model_of_the_table_and_rows_for_linf_alone_keep_their_customary_radius(norm, radius):
    args = recipes_table.parser().parse_args(["--seeds", "1", "--set", f"judge.norm={norm}", f"judge.epsilon={radius}"])
    params = {name: job.params for (name, _), job in recipes_table.jobs_of(args).items()}
    assert params.keys() == SMALL.keys()
    assert all((p["judge.norm"], p["judge.epsilon"]) == (norm, float(radius)) for p in params.values())
    radii = {name: p for name, p in params.items() if "perturbation.epsilon" in p}
    trained = {name: (p.get("perturbation.norm"), p["perturbation.epsilon"]) for name, p in radii.items()}
    assert trained.pop("fgsm_l2") == ("l2", 0.5)
    in_linf = {"rfgsm_at": (None, 0.1), "rss_at": ("linf", 0.1)} if norm == "l2" else {"rfgsm_at": (None, 0.2)}
    assert trained == dict.fromkeys(trained, (norm, float(radius))) | in_linf


def rows(*argv: str) -> dict[str, dict[str, Value]]:
    """The parameters of the first seed of every row."""
    jobs = recipes_table.jobs_of(recipes_table.parser().parse_args(argv))
    return {name: job.params for (name, seed), job in jobs.items() if seed == 1}


def test_small_rows_have_a_common_training_to_which_each_adds_its_strength():
    settings = ("net=allconv", "epochs=5", "optimizer=adam", "optimizer.lr=0.002", "batch_size=32")
    params = rows("--set", *settings, "--recipes", *SMALL, "bpfc_a1", "gat_dropout")
    for name, own in params.items():
        common = {"net": "allconv", "epochs": 5, "optimizer": "adam", "optimizer.lr": 0.002, "batch_size": 32}
        expected = common | SMALL.get(name, {})
        assert {key: own[key] for key in expected} == expected, name
    assert params["bpfc_a1"]["regularizer.noise"] == 0.0 and params["bpfc_a1"]["regularizer.growth"] == 9.0
    assert (params["gat_dropout"]["perturbation"], params["gat_dropout"]["net.dropout"]) == ("gat", 0.25)
    assert params["rss_at"]["perturbation.epsilon"] == 0.1  # of the judge settings


def test_published_rows_are_all_recipes_with_their_own_settings_unless_they_are_set():
    params = rows("--strengths", "published", "--dataset", "cifar10")
    assert params.keys() == RECIPES.keys()
    for name, recipe in RECIPES.items():
        assert {key: params[name][key] for key in recipe} == recipe
        assert params[name]["judge.part"] == "test" and params[name]["dataset"] == "cifar10"
    assert params["noise"]["perturbation.epsilon"] == 8 / 255
    common = ("net=resnet10", "net.width=16", "epochs=6", "batch_size=64", "optimizer=sgd", "optimizer.lr=0.05")
    equal = rows("--strengths", "published", "--recipes", "crl", "bpfc", "gat", "--set", *common)
    for name in equal:
        shared = {"net": "resnet10", "net.width": 16, "epochs": 6, "batch_size": 64, "optimizer": "sgd", "optimizer.lr": 0.05}
        expected = {**shared, **method_of(RECIPES[name])}
        assert {key: equal[name][key] for key in expected} == expected


def test_a_radius_of_a_recipe_keeps_its_norm_in_a_table_of_another_norm():
    params = rows("--strengths", "published", "--recipes", "pgd_at", "noise", "--set", "judge.norm=l2", "judge.epsilon=1.5")
    assert (params["pgd_at"]["perturbation.norm"], params["pgd_at"]["perturbation.epsilon"]) == ("linf", 8 / 255)
    assert (params["noise"]["perturbation.norm"], params["noise"]["perturbation.epsilon"]) == ("l2", 1.5)


def test_settings_of_one_row_change_that_row_after_everything_else():
    params = rows(
        "--recipes", "cross_entropy", "bpfc", "dp_sgd", "--set", "epochs=9", "bpfc:regularizer.growth=9", "bpfc:epochs=3",
        "dp_sgd:optimizer.noise_multiplier=2",
    )  # fmt: skip
    assert [params[name]["epochs"] for name in params] == [9, 3, 9]
    assert params["bpfc"]["regularizer.growth"] == 9.0 and params["dp_sgd"]["optimizer.noise_multiplier"] == 2.0
    replaced = rows("--recipes", "bpfc", "--set", "bpfc:regularizer=l2", "bpfc:regularizer.l2=0.5")["bpfc"]
    assert replaced["regularizer"] == "l2" and replaced["regularizer.l2"] == 0.5


@pytest.mark.parametrize(("argv", "message"), [
    (("--recipes", "relaxlos"), "^unknown recipe 'relaxlos'.*did you mean 'relaxloss'"),
    (("--recipes", "bpfc", "--set", "bfpc:epochs=3"), "^unknown row of --set 'bfpc' .did you mean 'bpfc'"),
    (("--recipes", "bpfc", "--set", "bpfc:judge.steps=3"), "split and judge settings; use --set judge.steps=3$"),
    (("--recipes", "bpfc", "--set", "bpfc:pool=300"), "^--set bpfc:pool: all rows have the same images.*; use --set pool=300$"),
    (("--recipes", "bpfc", "--set", "bpfc:loss.lambda=3"), "^bpfc: .*'lambda'"),
    (("--recipes", "dropout"), "^dropout: .*knob of net=convnet: 'dropout'.*; net=.*allconv.* has it$"),
])  # fmt: skip
def test_rows_and_settings_that_do_not_exist_are_refused_in_one_line(argv, message):
    with pytest.raises(InputError, match=message) as caught:
        rows(*argv)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_ordinary_training_is_no_small_row(monkeypatch):
    monkeypatch.setitem(RECIPES, "long", {"net": "vgg16", "optimizer": "adam", "epochs": 300})
    with pytest.raises(InputError, match=r"^long differs from cross_entropy in its training only; use --strengths published"):
        rows("--recipes", "long")
    assert rows("--recipes", "long", "--strengths", "published")["long"]["epochs"] == 300


OFFICIAL = ("--seeds", "2", "--recipes", "cross_entropy", "crl", "--set", "epochs=1", "net.width=4", "judge.steps=1",
            "judge.images=8", "split=official")  # fmt: skip


def test_a_table_of_the_official_split_evaluates_on_the_test_file_and_audits_by_val(tmp_path):
    images = digits_with_a_test_file()
    args = recipes_table.parser().parse_args([*OFFICIAL, "split.val=150"])
    jobs, executor = recipes_table.jobs_of(args), local_executor(images, tmp_path)
    results = recipes_table.train(jobs, executor)
    assert not [result.error for result in results.values() if result.error]
    for (_, seed), job in jobs.items():
        parts = split(images, TrialConfig.of(job.params).split, seed)
        arrays = executor.workspace.store.read_arrays(f"{job.folder}/predictions.npz")
        assert set(arrays["rows"]) == set(parts.test) == set(range(600, 1000))
        assert set(arrays["own/rows"]) == {*parts.members, *parts.val}
    lines = recipes_table.table(args.recipes, 2, results).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["recipe", "---", "cross_entropy", "crl", "crl - cross_entropy"]
    assert "| - |" not in "".join(lines)


def test_numbers_that_the_split_cannot_give_are_left_out_with_the_reason(tmp_path):
    args = recipes_table.parser().parse_args([*OFFICIAL, "split.val=0"])
    results = recipes_table.train(recipes_table.jobs_of(args), local_executor(digits_with_a_test_file(), tmp_path))
    text = recipes_table.table(args.recipes, 2, results, ("accuracy", "mia_auc", "dp_epsilon"))
    table, left_out = text.split("\n\n")
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:5]] for line in table.splitlines()[2:]}
    assert all("±" in own[0] and own[1:] == ["-", "-"] for own in cells.values())
    assert left_out.splitlines() == [
        "mia_auc is left out: the split has no non-members that are drawn like the members, so no audit could tell memory from a "
        "difference of the data; raise split.val, or use split=stratified",
        "dp_epsilon is left out: these networks have no such metric",
    ]


def test_audits_that_the_split_does_not_allow_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = digits_with_a_test_file()
    monkeypatch.setattr(recipes_table.data, "load", lambda *_: images)
    args = recipes_table.parser().parse_args([*OFFICIAL, "split.val=0", "--audits"])
    with pytest.raises(InputError, match=r"^--audits compares members .*; use --set split\.val=0\.1, or --set split=stratified$"):
        recipes_table._main(args)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_means_paired_differences_and_nothing_trained_twice(run_study, tmp_path):
    options = ("--seeds", "2", "--recipes", "cross_entropy", "crl", "--set", "epochs=3", "judge.steps=2")
    first = run_study.succeed(tmp_path, *options, script=SCRIPT)
    rows = re.findall(r"^\| ([\w -]+) \| (.*) \|$", first, re.M)
    assert [name for name, _ in rows] == ["recipe", "cross_entropy", "crl", "crl - cross_entropy"]
    means = {name: float(cells.split(" ")[0]) for name, cells in rows[1:]}
    assert means["crl - cross_entropy"] == pytest.approx(means["crl"] - means["cross_entropy"], abs=0.0011)
    times = modified(tmp_path)
    assert len(times) == 4
    again = run_study.succeed(tmp_path, *options, script=SCRIPT)
    assert again.splitlines()[-3:] == first.splitlines()[-3:]
    assert modified(tmp_path) == times


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_unknown_recipe_is_refused(run_study, tmp_path):
    done = run_study(tmp_path, "--recipes", "relaxlos", script=SCRIPT)
    assert done.returncode != 0 and "did you mean 'relaxloss'" in done.stderr and not list(tmp_path.glob("runs"))
