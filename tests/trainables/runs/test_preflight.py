"""Checks before a study starts."""

from dataclasses import replace

import command_lines
import finished
import pytest
from conditional_study import STUDY as CONDITIONAL
from digits import DIGITS

from core import data
from core.config import TrialConfig
from core.errors import InputError
from core.space import Switch, Uniform
from core.study import Constraint
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
