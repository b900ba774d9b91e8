"""Measuring configurations: in this process, and in processes that are stopped at a deadline."""

import io
import multiprocessing
import time

import numpy as np
import pytest
import torch

from core import data, train
from core.config import TrialConfig
from core.data import Images
from core.evaluation.judge import judge
from core.evaluation.timing import PhaseTimer
from core.study import CONFIRM
from trainables.cost import evaluation, pilots
from trainables.cost.passes import Sizes
from trainables.cost.pilots import Pilot, Setting, measure, measured, reduced
from trainables.cost.training import _per_image, measure_training, warm_up
from trainables.storage.arrays import to_npz

CPU = torch.device("cpu")
SMALL = TrialConfig.of({"net.width": 4, "epochs": 4, "judge.steps": 3, "judge.epsilon": 0.1})
CONFIRMED = SMALL.set({**CONFIRM, "judge.suite": "quick"})


def digits() -> Images:
    """Some of the digits."""
    return data.load("digits", pool=500)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Libraries that the first training of a process loads."""
    warm_up(digits(), CPU)


def setting_of(images: Images, siblings: int = 2, shadows: int = 0) -> Setting:
    parts = data.split(images)
    sizes = {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}
    return Setting(sizes, siblings, shadows, threads=1, use_gpu=False)


def test_a_small_configuration_is_trained_to_its_end_and_evaluated_on_all_images(one_thread):
    images = digits()
    cost = measure(Pilot("", SMALL, CONFIRMED), images, setting_of(images), CPU, seconds=60)
    assert cost.training.trained == 1 and cost.training.batch == len(data.split(images).members) == 125
    assert cost.confirm and (cost.sweep.share, cost.confirm.share) == (1, 1)
    assert min(cost.training.seconds, cost.sweep.attack, cost.sweep.audit, cost.confirm.attack, cost.confirm.audit) > 0
    assert cost.sweep.outputs == 0 < cost.confirm.outputs < cost.confirm.audit  # the sweep stores no outputs
    assert cost.phase.total > 0 and cost.peak > 1e8


def test_the_bytes_of_files_are_those_of_the_study(one_thread):
    images, parts = digits(), data.split(digits())
    cost = measure(Pilot("", SMALL, CONFIRMED), images, setting_of(images), CPU, seconds=60)
    bound = train.train(SMALL, images.at(parts.members), images.at(parts.val))
    buffer, result = io.BytesIO(), judge(CONFIRMED, bound, images, parts)
    torch.save(bound.state()["modules"], buffer)
    assert result.outputs and cost.confirm
    stored = len(to_npz(result.predictions)) + len(to_npz(result.outputs.arrays()))
    assert cost.network == pytest.approx(buffer.tell(), rel=0.01)
    assert cost.confirm.files == pytest.approx(stored, rel=0.02)


def test_with_little_time_passes_are_counted_instead(one_thread):
    images = digits()
    slow = SMALL.set({"net.width": 32, "epochs": 1000})
    cost = measure(Pilot("", slow, slow.set(CONFIRM)), images, setting_of(images), CPU, seconds=0.5)
    assert cost.training.trained < 0.1 and cost.confirm and (cost.sweep.share, cost.confirm.share) == (0, 0)
    assert cost.confirm.attack > cost.sweep.attack > 0


def test_the_time_of_a_training_is_extrapolated_from_few_epochs(one_thread):
    images, config = digits(), SMALL.set({"epochs": 60, "net.width": 24})
    members = len(data.split(images).members)
    whole, _ = measure_training(config, images, members, CPU, seconds=60)
    part, _ = measure_training(config, images, members, CPU, seconds=0.25 * whole.seconds * whole.load)
    assert whole.trained == 1 > part.trained
    assert 0.5 < part.seconds / whole.seconds < 2
    twice, _ = measure_training(config, images, 2 * members, CPU, seconds=60)
    assert 1 < twice.seconds / whole.seconds < 4


def test_the_time_of_a_training_includes_the_choice_of_the_epoch(one_thread):
    images = digits()
    chosen = SMALL.set({"selection": "attack", "selection.attack": "pgd:steps=300", "selection.images": 40})
    plain, own = (measure(Pilot("", config, None), images, setting_of(images), CPU, seconds=20) for config in (SMALL, chosen))
    assert own.training.seconds > 3 * plain.training.seconds  # 4 x 125 steps on members, and 4 x 40 x 300 of the attack
    assert own.training.trained == 1


def test_a_step_on_a_whole_batch_is_extrapolated_from_smaller_ones():
    """A step takes 0.1 s and 0.01 s per image."""
    assert _per_image([(4, 0.14), (16, 0.26)], 128) == pytest.approx(0.1 / 128 + 0.01)
    assert _per_image([(4, 0.14)], 128) == pytest.approx(0.14 / 4)
    assert _per_image([(4, 0.14), (449, 5.0)], 128) == pytest.approx(5.0 / 449)  # whole batches


def test_audits_by_other_networks_are_measured_with_and_without_shadow_models(one_thread):
    images = digits()
    sizes = setting_of(images).sizes["test"]
    few, evidence = evaluation.measure_audit_by_others(CONFIRMED, images, sizes, siblings=2, shadows=0)
    many, more = evaluation.measure_audit_by_others(CONFIRMED, images, sizes, siblings=2, shadows=2)
    assert 0 < few < many and 0 < evidence < more


def test_inversion_and_attribution_are_measured(one_thread):
    images = digits()
    one, two = (
        measure(Pilot("", SMALL.set({"judge.inversion": "ascent", "judge.inversion_iterations": n}), None), images,
                setting_of(images), CPU, seconds=30).sweep
        for n in (100, 2000)
    )  # fmt: skip
    assert 0 < one.inspection < two.inspection
    assert measure(Pilot("", SMALL, None), images, setting_of(images), CPU, seconds=30).sweep.inspection == 0


def test_a_phase_is_measured_on_the_given_clock():
    ticks = iter([10.0, 13.0])
    timer = PhaseTimer(lambda: next(ticks))
    with timer("train"):
        pass
    assert timer.seconds == {"train": 3.0}


def large_images() -> Images:
    stream = np.random.Generator(np.random.PCG64(0))
    x = stream.integers(0, 256, (80, 3, 128, 128), dtype=np.uint8)
    return Images(torch.from_numpy(x), torch.arange(80) % 10, 10)


@pytest.mark.thorough
def test_a_network_that_is_too_slow_is_stopped_at_the_deadline():
    images = large_images()
    config = TrialConfig.of({"net": "wrn", "perturbation": "pgd", "perturbation.steps": 10})
    begun = time.monotonic()
    found = measured(
        [Pilot("", config, None)], images, setting_of(images), seconds=6, processes=1, on_cost=lambda pilot, cost: None
    )
    assert time.monotonic() - begun < 15  # a step takes minutes
    assert not found.costs and not found.lost and not multiprocessing.active_children()


def test_a_process_that_is_killed_is_counted():
    """Rows of labels that do not exist make the process fail, as the system does when it has no memory left."""
    images = digits()
    broken = Setting({}, 0, 0, threads=1, use_gpu=False)
    found = measured([Pilot("", SMALL, None)], images, broken, seconds=60, processes=1, on_cost=lambda pilot, cost: None)
    assert found.lost == 1 and not found.costs and not found.skipped


def test_a_resnet_on_a_cpu_is_measured_by_a_few_steps_and_its_passes(one_thread):
    """A step on a whole batch, or an evaluation, would take minutes."""
    images = data.load("digits", pool=500)
    images = Images(images.x.repeat(1, 3, 4, 4), images.y, 10)
    config = TrialConfig.of({"net": "resnet18", "perturbation": "pgd", "perturbation.steps": 7, "epochs": 10})
    cost = measure(Pilot("", config, config.set(CONFIRM)), images, setting_of(images), CPU, seconds=3)
    assert cost.training.trained == 0 and cost.training.batch <= 16
    assert cost.confirm and (cost.sweep.share, cost.confirm.share) == (0, 0)
    assert cost.training.seconds > 20 and cost.confirm.attack > 20 * cost.sweep.audit
    assert cost.network > 40e6  # 11 million weights


@pytest.mark.thorough
def test_every_configuration_is_measured_once_and_reported_except_those_that_cannot_be_trained():
    images, reported = digits(), []
    diverging = Pilot("c", SMALL.set({"optimizer.lr": 1e30}), None)
    pilots = [Pilot("a", SMALL, CONFIRMED), diverging, Pilot("b", SMALL.set({"seed": 1}), None)]
    found = measured(
        pilots, images, setting_of(images), seconds=100, processes=2, on_cost=lambda pilot, cost: reported.append(pilot.name)
    )
    assert sorted(reported) == ["a", "b"] and sorted(found.costs) == [0, 2] and found.skipped == 1
    assert found.audits and found.audits.seconds > 0 and found.warm_up > 0 and found.lost == 0
    assert not multiprocessing.active_children()


COUNTS = {
    "dataset": "digits", "split.members": 800, "split.val": 400, "split.test": 0.1, "split.shadow": 0, "net.width": 4, "epochs": 2,
    "selection": "accuracy", "selection.images": 200, "judge.images": 20, "judge.steps": 1,
}  # fmt: skip


def test_numbers_of_images_are_the_same_shares_of_a_part_of_the_pool():
    config = TrialConfig.of(COUNTS)
    half = reduced(config, 0.5)
    assert (half.split.members, half.split.val, half.split.test, half.split.shadow) == (400, 200, 0.1, 0)
    assert half.selection.images == 100 and reduced(config, 1.0) == config
    official = TrialConfig.of({"split": "official", "split.val": 10000, "split.shadow": 0.25})
    assert (reduced(official, 1 / 6).split.val, reduced(official, 1 / 6).split.shadow) == (1667, 0.25)


def test_a_configuration_with_more_images_than_a_process_receives_is_measured(monkeypatch):
    """As with the paper's presets, whose validation part has as many images as a process receives at most."""
    monkeypatch.setattr(pilots, "MAX_IMAGES", 600)
    images, config = data.load("digits"), TrialConfig.of(COUNTS)
    parts = config.parts(images)
    sizes = {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}
    setting = Setting(sizes=sizes, siblings=0, shadows=0, threads=1, use_gpu=False)
    found = measured([Pilot("", config, None)], images, setting, seconds=40, processes=1, on_cost=lambda pilot, cost: None)
    assert found.costs.keys() == {0} and not found.skipped and found.costs[0].training.seconds > 0
