"""Checks before a study starts."""

from dataclasses import replace

import command_lines
import finished
import pytest
from conditional_study import STUDY as CONDITIONAL
from digits import DIGITS
from splits import digits_with_a_test_file

from core import data
from core.config import TrialConfig
from core.errors import InputError
from core.space import Switch, Uniform
from core.study import Constraint, Objective, trilemma
from studies.inversion_tradeoff import objectives as inversion_objectives
from trainables.runs import preflight
from trainables.study.site import Site


def test_every_option_is_bound_to_the_images_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = replace(CONDITIONAL, space=lambda config: {"net": Switch({"convnet": {}, "vgg11_bn": {}})}, baselines={})
    with pytest.raises(InputError, match="net=vgg11_bn needs images of at least"):
        preflight.check(replace(command_lines.plan(study=study), data=DIGITS), Site())
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_fit_the_size_of_the_images_are_refused():
    digits = data.load("digits", pool=300)
    small = data.Images(digits.x[:, :, :2, :5].contiguous(), digits.y, digits.classes)
    preflight.check_config(TrialConfig(), small, Site())
    with pytest.raises(InputError, match=r"judge\.attribution needs images of at least 3x3 pixels.*these are 2x5"):
        preflight.check_config(TrialConfig.of({"judge.attribution": 1}), small, Site())
    with pytest.raises(InputError, match=r"judge\.epsilon=128 is longer than the L2 distance 8 from black to white"):
        preflight.check_config(TrialConfig.of({"judge.norm": "l2", "judge.epsilon": 128}), digits, Site())


def test_a_constraint_on_a_metric_that_is_not_measured_is_refused_with_the_metrics_that_are():
    images = data.load("digits")

    def check(constraint: str, **changes) -> None:
        preflight.check_required(finished.plan(require=(Constraint.of(constraint),), **changes), images)

    with pytest.raises(
        InputError, match=r"metric of --require 'acuracy'.*did you mean 'accuracy'|metric of --require 'acuracy'.*accuracy"
    ):
        check("acuracy>=0.5")
    measured = (Constraint.of("robust_accuracy/pgd>=0.5"), Constraint.of("density<=0.9"))
    preflight.check_required(finished.plan(require=measured), images)
    private = {"config": TrialConfig.of({"optimizer": "dp_sgd", "normalize": False}), "space": {"optimizer.lr": Uniform(0.1, 0.2)}}
    check("dp_epsilon<=8", **private)
    with pytest.raises(InputError, match="dp_epsilon"):
        check("dp_epsilon<=8")


def test_more_images_for_the_choice_of_the_epoch_than_val_has_are_refused():
    images, plan = data.load("digits"), finished.plan(config=TrialConfig.of({"selection": "accuracy", "selection.images": 200}))
    preflight.check_parts(plan, images)
    with pytest.raises(InputError, match=r"selection\.images=300 leaves none of the 224 images of val"):
        preflight.check_parts(replace(plan, config=plan.config.set({"selection.images": 300})), images)


def test_every_replicate_and_shadow_model_of_a_plan_has_members_of_every_class():
    images = data.load("digits")
    config, y = TrialConfig.of({"split": "paper"}), images.y.clone()
    y[data.split(images, config.split, shadow=3).members] %= 9  # the third shadow model gets no image of class 9
    lacking = replace(images, y=y)
    plan = finished.plan(config=config, shadows=2)
    preflight.check_parts(plan, lacking)
    with pytest.raises(InputError, match="class 9 has no image in members of shadow model 3; use split=stratified"):
        preflight.check_parts(replace(plan, shadows=3), lacking)


# -- objectives that a split cannot measure ---------------------------------------------------------------------------

WITHOUT_VAL = {"split": "official", "split.val": 0, "judge.part": "test"}
NOT_LEAKY = (Objective("accuracy", "max", 0.1, 1.0), Objective("robust_accuracy", "max", 0.0, 1.0))
REMEDY = r".* and this split has none; use --set split\.val=0\.1, or --set split=stratified$"


@pytest.mark.parametrize(("changes", "named"), [
    ({}, "the objective mia_auc"),
    ({"objectives": inversion_objectives(10)}, "the objective inversion_leak"),
    ({"objectives": NOT_LEAKY, "require": (Constraint.of("mia_auc<=0.6"),)}, "--require mia_auc<=0.6"),
    ({"objectives": NOT_LEAKY, "require": (Constraint.of("mia_tpr_at_fpr_0.01<=0.1"),)}, "--require mia_tpr_at_fpr_0.01<=0.1"),
    ({"objectives": NOT_LEAKY, "config": TrialConfig.of({**WITHOUT_VAL, "judge.inversion": "ascent"})}, "judge.inversion=ascent"),
])  # fmt: skip
def test_a_plan_that_compares_members_with_images_that_the_split_does_not_have_is_refused(changes, named):
    plan = finished.plan(**{"config": TrialConfig.of(WITHOUT_VAL), "replicates": 0, **changes})
    with pytest.raises(InputError, match=f"^{named} compares members with images that are drawn like them{REMEDY}"):
        preflight.check_audited(plan, digits_with_a_test_file())
    for remedy in ({"split.val": 0.1}, {"split": "stratified"}):  # what the message asks for
        preflight.check_audited(replace(plan, config=plan.config.set(remedy)), digits_with_a_test_file())


def test_a_plan_that_compares_nothing_with_members_needs_no_such_images():
    plan = finished.plan(config=TrialConfig.of(WITHOUT_VAL), replicates=0, objectives=NOT_LEAKY)
    preflight.check_audited(plan, digits_with_a_test_file())


def test_a_confirmation_that_has_no_such_images_is_refused_too(monkeypatch):
    images, plan = digits_with_a_test_file(), finished.plan(config=TrialConfig.of({"split": "official"}))
    preflight.check_audited(plan, images)  # it compares members with val, also in the confirmation step
    monkeypatch.setattr(data.Parts, "non_members", data.Parts.judged)
    without = {"judge.part": "test"}
    none = replace(data.split(images, plan.config.split), test=data.split(images, plan.config.split).test[:0])
    monkeypatch.setattr(TrialConfig, "parts", lambda *_: none)
    with pytest.raises(InputError, match=r"^the objective mia_auc compares members"):
        preflight.check_audited(replace(plan, confirm=without), images)
    preflight.check_audited(replace(plan, confirm=without, replicates=0), images)


def test_a_new_study_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ("--no-confirm", "--set", *(f"{name}={value}" for name, value in WITHOUT_VAL.items()))
    plan = replace(command_lines.plan(*given), data=None)
    monkeypatch.setattr(preflight, "study_images", lambda *_: digits_with_a_test_file())
    with pytest.raises(InputError, match=REMEDY):
        preflight.check_new(plan, Site(), trilemma)
    assert not list(tmp_path.iterdir())


def test_metrics_that_a_split_cannot_give_are_not_among_those_of_require():
    images = digits_with_a_test_file()
    required = (Constraint.of("mia_tpr_at_fpr_0.1<=0.5"),)
    plan = finished.plan(config=TrialConfig.of(WITHOUT_VAL), objectives=NOT_LEAKY, require=required, replicates=0)
    with pytest.raises(InputError, match="unknown metric of --require"):
        preflight.check_required(plan, images)
