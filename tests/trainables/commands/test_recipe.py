"""`--recipe` in a study: settings, ranges, baselines and questions."""

import importlib
import re

import pytest
from command_lines import plan

from core import space
from core.config import SLOTS
from core.errors import InputError
from core.recipes import RECIPES, method_of
from core.space import LogUniform, Uniform
from core.study import UNDEFENDED, Study
from trainables.commands.recipe import layered
from trainables.study.options import options_of
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.terminal.provenance import recipe_fact, resume_command, study_facts
from trainables.tracking.contents import study_params

STUDIES = ("crl_tradeoff", "bpfc_tradeoff", "gat_tradeoff", "sparsity_tradeoff", "inversion_tradeoff", "all_knobs")
all_studies = pytest.mark.parametrize("name", STUDIES)


def study(name: str) -> Study:
    return importlib.import_module(f"studies.{name}").STUDY


def with_remedies(name: str, recipe: str) -> Plan:
    """The plan of a study with a recipe, and with the options that an error message asks for."""
    options: dict[str, list[str]] = {}
    for _ in range(3):
        try:
            return plan("--recipe", recipe, *(word for flag, own in options.items() for word in (flag, *own)), study=study(name))
        except InputError as error:
            assert "\n" not in str(error)
            remedy = re.search(r"(--set|--space) (\S+=\S+(?: \S+=\S+)*)$", str(error))
            assert remedy, str(error)
            options.setdefault(remedy[1], []).extend(remedy[2].split())
    raise AssertionError(f"{name} --recipe {recipe} is refused with {options}")


@all_studies
def test_every_recipe_is_accepted_by_every_study_or_refused_with_options_that_make_it_so(name):
    preset = study(name).presets["dev"].config
    for recipe, settings in RECIPES.items():
        planned = with_remedies(name, recipe)
        params = planned.config.params()
        assert {key: params[key] for key in settings} == settings and planned.recipe == recipe
        assert planned.space and planned.config.judge == preset.judge and planned.config.split == preset.split
        for changes in planned.baselines.values():  # no baseline has a component of the recipe that it does not name
            baseline, ordinary = planned.configured(changes).params(), {**UNDEFENDED, **changes}
            assert all(baseline[slot] == ordinary[slot] for slot in UNDEFENDED)
            rest = {key for key in method_of(settings) if key.partition(".")[0] not in UNDEFENDED}
            assert not rest & method_of(baseline).keys()
        for contrast in planned.contrasts:
            assert {c for c in (contrast.treatment, contrast.control) if isinstance(c, str)} <= planned.baselines.keys()


def test_a_recipe_is_put_on_the_preset_before_the_data_set_and_the_settings():
    planned = plan("--recipe", "relaxloss", "--dataset", "cifar10", "--set", "epochs=7", "loss.alpha=0.5")
    params, preset = planned.config.params(), plan().config.params()
    assert (params["loss"], params["loss.alpha"], params["epochs"], params["optimizer.lr"]) == ("relaxloss", 0.5, 7, 0.1)
    assert params["judge.epsilon"] == 8 / 255 and params["net"] == preset["net"] and params["perturbation"] == "pgd"


def test_a_component_that_is_set_replaces_that_of_the_recipe_with_its_knobs():
    assert layered({"loss": "crl", "loss.lambda": 1.0, "epochs": 3}, {"loss": "dmp"}) == {"loss": "dmp", "epochs": 3}
    assert layered({"loss": "crl", "loss.lambda": 1.0}, {"loss": "crl"}) == {"loss": "crl", "loss.lambda": 1.0}
    assert layered({"optimizer.stop_at": 0.4}, {"optimizer": "adam"}) == {"optimizer.stop_at": 0.4, "optimizer": "adam"}
    planned = plan("--recipe", "label_smoothing", "--set", "loss=crl", "optimizer=adam", "optimizer.lr=0.5")
    assert planned.config.params()["loss"] == "crl" and planned.config.optimizer.lr == 0.5
    assert {"loss.lambda", "perturbation.epsilon"} <= planned.space.keys()


def test_ranges_that_do_not_fit_are_left_out_and_declared_ones_are_those_of_the_new_component():
    planned = plan("--recipe", "rss_at", study=study("bpfc_tradeoff"))
    assert planned.space == {"regularizer.lambda": LogUniform(1.0, 100.0)}  # of RSS; that of BPFC is 0.1 to 50
    assert "the range of regularizer.k, which regularizer=rss does not have" in planned.left_out
    kept = plan("--recipe", "fgsm_at").space["perturbation.epsilon"]
    assert kept == Uniform(0.0, 0.05)  # of the study, up to the radius of the evaluation


def test_a_searched_slot_is_that_of_the_recipe_and_its_ranges_are_searched():
    whole = study("all_knobs").space(study("all_knobs").presets["dev"].config)
    planned = plan("--recipe", "bpfc", study=study("all_knobs"))
    assert planned.space == {**{n: whole[n] for n in ("loss", "perturbation")}, **whole["regularizer"].options["bpfc"]}
    assert planned.left_out == () and len(planned.contrasts) == 6
    advreg = plan("--recipe", "advreg", study=study("all_knobs"))
    assert "dmp" not in space.ends(advreg.space["loss"])
    assert advreg.left_out == ("loss=dmp in the search, which does not go with the rest",)
    with pytest.raises(InputError, match=r"^regularizer is set by --recipe bpfc and searched by --space; drop one of them$"):
        plan("--recipe", "bpfc", "--space", "regularizer=bpfc,none", study=study("all_knobs"))


def test_baselines_with_a_rest_of_the_recipe_and_questions_about_other_networks_are_left_out():
    mixup = plan("--recipe", "mixup", study=study("bpfc_tradeoff"))
    assert not mixup.baselines and not mixup.contrasts
    assert "the baseline 'undefended', in which augmentation=mixup of the recipe would remain" in mixup.left_out
    robust = "Is BPFC more robust than no defence, at the same accuracy?"
    assert plan("--recipe", "bpfc_mnist", study=study("bpfc_tradeoff")).contrasts == study("bpfc_tradeoff").contrasts
    for recipe, reason in {
        "pgd_at": "its points would have perturbation=pgd of the recipe, too",
        "bpfc_a1": "no point of the search has regularizer.noise=1.0",
    }.items():
        planned = plan("--recipe", recipe, study=study("bpfc_tradeoff"))
        assert len(planned.baselines) == 3 and f"the question {robust!r}: {reason}" in planned.left_out
        assert [c.question for c in planned.contrasts] == ["Does adversarial training leak less than no defence?"]


@pytest.mark.parametrize(("argv", "message"), [
    (("--recipe", "bfpc"), "^unknown recipe 'bfpc'.*did you mean 'bpfc'"),
    (("--recipe", "cross_entropy"), "^--recipe cross_entropy has none of the searched settings loss.alpha_rce, .*"
     "; add a range to search, such as --space optimizer.lr=0.001:0.3:log$"),
    (("--recipe", "dp_sgd"), "^with --recipe dp_sgd: .*loss=crl does not allow.*; without the preset's own components: "
     "--set loss=cross_entropy perturbation=none$"),
    (("--recipe", "crl", "--set", "loss.epsilon=0.1"), "^with --recipe crl: unknown knob of loss=crl: 'epsilon'"),
])  # fmt: skip
def test_a_recipe_that_does_not_exist_or_fit_is_refused_in_one_line(argv, message):
    with pytest.raises(InputError, match=message) as caught:
        plan(*argv)
    assert "\n" not in str(caught.value)


def test_the_recipe_is_in_the_plan_its_record_mlflow_and_the_command_that_resumes_it():
    planned = plan("--recipe", "label_smoothing")
    assert Plan.of_json(planned.to_json()) == planned and planned.requested == {"recipe": "label_smoothing"}
    facts = study_facts(planned, ["studies/crl_tradeoff.py"])
    assert facts["recipe"] == recipe_fact(planned)
    assert facts["recipe"].startswith("label_smoothing; left out: the range of loss.alpha_rce, which loss=label_smoothing")
    params = study_params(planned, facts)
    assert params["recipe"] == "label_smoothing" and params["fact/recipe"] == facts["recipe"]
    assert "--recipe label_smoothing" in resume_command(planned, Site())
    recipe = options_of(Plan)["recipe"][0]
    assert planned.was_requested(recipe, "label_smoothing") and not planned.was_requested(recipe, "crl")
    assert "recipe" not in study_facts(plan(), []) and study_params(plan(), {})["recipe"] == ""


def test_no_recipe_changes_nothing():
    for name in STUDIES:
        planned = plan(study=study(name))
        assert planned.left_out == () and planned.recipe == "" and planned.contrasts == study(name).contrasts
        assert all(slot in SLOTS for slot in UNDEFENDED)
