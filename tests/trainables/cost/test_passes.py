"""Numbers of passes through a network, counted with one that no attack fools."""

import pytest
import torch
from torch import nn

from core import data, train
from core.attacks.suite import PROBE, run_suite
from core.config import TrialConfig
from core.evaluation.robustness import attacked_images, suite_of
from trainables.cost import passes
from trainables.cost.passes import CountingNet, Passes, Sizes


def config(**judge) -> TrialConfig:
    return TrialConfig.of({"judge.epsilon": 0.1, "net.width": 4, "epochs": 2} | {f"judge.{name}": v for name, v in judge.items()})


def sizes(judged: int = 225) -> Sizes:
    return Sizes(pool=1797, members=449, judged=judged, target=898)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [5, 20])
def test_the_quick_suite_takes_one_step_of_fgsm_and_all_steps_of_pgd_on_each_image(steps, norm):
    """Before and after them, three forward passes decide whether the image is classified correctly."""
    each, _ = passes._per_attacked_image(config(steps=steps, norm=norm).judge, False)
    assert each == Passes(forward=steps + 1 + 3, backward=steps + 1)


def test_a_network_that_is_never_fooled_is_queried_as_often_as_square_may():
    few, many = (passes._per_attacked_image(config(suite=suite).judge, False)[0] for suite in ("quick", "standard"))
    assert few.forward == 24 and 500 + 24 < many.forward - (many.backward - few.backward) < 500 + 24 + 20


def test_the_first_images_take_the_passes_of_the_probes_and_the_others_do_not():
    def per_image(first: int, second: int) -> Passes:
        one, two = (passes.attacks_of(config(), sizes(count)) for count in (first, second))
        return (two + one * -1) * (1 / (second - first))

    each, probed = passes._per_attacked_image(config().judge, False)
    assert per_image(10, 20).backward == pytest.approx((each + probed).backward)
    assert per_image(PROBE, PROBE + 50).backward == pytest.approx(each.backward)
    assert probed.backward > 40 + 20  # PGD with twice the steps, PGD with another loss


def test_fewer_images_are_attacked_if_the_judge_settings_say_so():
    assert passes.attacks_of(config(images=50), sizes(225)) == passes.attacks_of(config(), sizes(50))


def test_a_network_that_was_trained_with_bpfc_is_also_attacked_through_its_regularizer():
    plain, defended = config(), config().set({"regularizer": "bpfc"})
    extra = passes.attacks_of(defended, sizes(1)).backward - passes.attacks_of(plain, sizes(1)).backward
    assert extra == 2 * plain.judge.steps  # two backward passes per step, of the image and of the quantised one


def test_audits_of_one_network_take_known_numbers_of_passes():
    scores, standard = config(), config(audits="standard")
    assert passes.audits_of(scores, sizes()) == Passes(449 + 225, 0)
    assert passes.audits_of(standard, sizes()) == Passes(2 * (449 + 225) + 1797 + 11 * 898, 449 + 225 + 10 * 898)
    adversarial = standard.set({"perturbation": "pgd", "augmentation": "crop_flip"})
    assert passes.queries_of(adversarial, sizes()) == (2 * 1797, 898)
    assert passes.outputs_of(adversarial, sizes()) == Passes(2 * 1797 + 11 * 898, 10 * 898)
    label_only = passes.audits_of(config(audits="full", images=100), sizes()).forward - passes.audits_of(standard, sizes()).forward
    assert 200 * 500 < label_only < 200 * 2000  # about steps^1.5 * samples queries, 1,131 here


def test_the_choice_of_the_epoch_takes_the_passes_of_its_attack_on_its_images_after_each_epoch_that_may_be_chosen():
    """Besides the steps of I-FGSM, two forward passes decide whether an image is classified correctly before and after them."""
    attack = {"selection": "attack", "selection.attack": "ifgsm:steps=7", "selection.images": 50, "selection.epsilon": 0.1}
    settings = config().set({"epochs": 20, **attack})
    once = Passes(forward=50 * (7 + 2), backward=50 * 7)
    assert passes.selection_of(settings) == once * 20
    assert passes.selection_of(settings.set({"selection.norm": "l2"})) == once * 20
    assert passes.selection_of(settings.set({"selection.last": 8})) == once * 8
    assert passes.selection_of(settings.set({"selection.last": 8, "optimizer.stop_at": 0.25})) == once * 5
    assert passes.selection_of(config().set({"epochs": 3, "selection": "accuracy"})) == Passes(3 * 100, 0)
    assert passes.selection_of(config()) == Passes(0, 0)


def test_the_images_that_choose_the_epoch_are_queried_and_not_judged():
    images, settings = data.load("digits"), config().set({"selection": "accuracy", "selection.images": 25})
    own, without = (Sizes.of(images, each.parts(images), "val") for each in (settings, config()))
    assert own == Sizes(pool=1797, members=without.members, judged=without.judged - 25, target=without.target)


def test_inversion_takes_a_step_per_iteration_and_reconstruction():
    assert passes.inspection_of(config(), 10) == Passes(0, 0)
    assert passes.inspection_of(config(inversion="ascent", inversion_iterations=300), 10) == Passes(300 * 40, 300 * 40)


class Counted(nn.Module):
    """A network whose passes are counted."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += len(x)
        return self.net(passes._Count.apply(x, self))


@pytest.mark.parametrize("suite", ["quick", "standard"])
def test_a_trained_network_takes_at_most_the_counted_passes(suite):
    images, settings = data.load("digits"), config(suite=suite, images=40).set({"epochs": 15})
    parts = data.split(images)
    bound = train.train(settings, images.at(parts.members), images.at(parts.val))
    x, y, _ = attacked_images(settings, images, parts.val, torch.device("cpu"))
    net = Counted(bound.net)
    run_suite(net, x, y, suite_of(settings, bound), epsilon=0.1)
    expected = passes.attacks_of(settings, Sizes.of(images, parts, "val"))
    assert 0.05 * expected.forward < net.forwards <= expected.forward
    assert 0.05 * expected.backward < net.backwards <= expected.backward


def test_the_counting_network_withstands_a_ball_of_the_radius_and_no_larger_one():
    for norm, longest in (("linf", 1.0), ("l2", 8.0)):
        net, x, y = passes._network(0.1, norm, 0.0)
        assert isinstance(net, CountingNet) and (net(x).argmax(1) == y).all()
        for epsilon, robust in ((0.1, True), (0.5 * longest, False)):
            attacks = suite_of(config(), None)  # pyright: ignore[reportArgumentType]
            assert run_suite(net, x, y, attacks, epsilon=epsilon, norm=norm).worst.all().item() is robust
