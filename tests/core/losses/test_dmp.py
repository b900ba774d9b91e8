"""DMP: the losses of teacher and student, the images that each is trained on, and the schedule of both phases."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from loss_oracles import B, C, batch_without_class_3, context, probabilities
from tiny_training import TINY, fit_numbered, numbered_images, record_batches, weights
from torch.nn import functional as F

from core import data, rng, train
from core.bound import build_net
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.inversion.acgan import train_generator
from core.losses.dmp import _DMP, DMP
from core.optimizers.standard import factor

torch.set_num_threads(1)

DISTILLATION = {"loss": "dmp", "epochs": 4, "normalize": False}


def dmp(epochs: int = 4, **knobs) -> Any:
    return DMP(**knobs).bind(context(epochs=epochs))


def changed(members: Images, rows) -> Images:
    """The members with inverted pixels in some rows."""
    x, y = members.x.clone(), members.y.clone()
    x[rows] = 255 - x[rows]
    return Images(x, y, members.classes)


# -- the losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_students_loss_is_its_divergence_from_the_teacher_at_the_temperature(temperature):
    """T^2 / B * sum_b sum_i t_i log(t_i / s_i); in the CRL code, the factor is 1 / (B C), without T^2."""
    student, features, _ = batch_without_class_3(0)
    teacher = batch_without_class_3(1)[0].detach()
    part = dmp(temperature=temperature)
    soft = part.distillation_data(Images(torch.zeros(B, 1, 2, 2), torch.zeros(B), C), teacher).y
    total = 0.0
    for s_row, t_row in zip(student, teacher, strict=True):
        s, t = probabilities(s_row / temperature), probabilities(t_row / temperature)
        total += sum(ti * math.log(ti / si) for ti, si in zip(t, s, strict=True))
    value = part(student, features, soft, 3)
    assert value.item() == pytest.approx(temperature**2 * total / B, rel=1e-10)
    (grad,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(grad, temperature * ((student / temperature).softmax(1) - soft).detach() / B)
    compat = dmp(temperature=temperature, crl_compat=True)
    assert compat(student, features, soft, 3).item() == pytest.approx(total / (B * C), rel=1e-10)
    assert part(teacher, features, soft, 3).item() == pytest.approx(0, abs=1e-12)


def test_the_teachers_loss_is_cross_entropy():
    logits, features, y = batch_without_class_3()
    for epoch in (1, 2):
        torch.testing.assert_close(dmp(temperature=3.0)(logits, features, y, epoch), F.cross_entropy(logits, y))


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 1.0])
def test_the_student_is_trained_on_the_reference_images_with_the_lowest_entropy(keep):
    logits = torch.randn(12, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference = Images(torch.arange(12).view(12, 1, 1, 1), torch.full((12,), 99), C)
    entropy = [-sum(q * math.log(q) for q in probabilities(row)) for row in logits]
    most_certain = sorted(sorted(range(12), key=lambda i: entropy[i])[: max(1, round(keep * 12))])
    student_data = dmp(keep=keep, temperature=2.0).distillation_data(reference, logits)
    assert student_data.x.flatten().tolist() == most_certain
    for row, i in zip(student_data.y, most_certain, strict=True):
        assert row.tolist() == pytest.approx(probabilities(logits[i] / 2.0))


# -- the two phases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share, epochs, expected", [(0.5, 4, 2), (0.25, 8, 2), (0.01, 5, 1), (0.99, 5, 4), (0.5, 2, 1)])
def test_teacher_and_student_have_at_least_one_epoch(share, epochs, expected):
    assert dmp(epochs, teacher=share).teacher_epochs == expected


def test_the_teacher_is_trained_on_private_images_alone_and_the_student_on_reference_images_alone(monkeypatch):
    batches = record_batches(monkeypatch)
    members = numbered_images()
    fit_numbered(DISTILLATION | {"loss.reference": 0.4}, members)
    private, reference = (set(rows.tolist()) for rows in data.hold_out(members.y, members.ids, 0.4, 0))
    assert private | reference == set(range(23)) and not private & reference and len(reference) == 9
    epochs = [[], [], [], []]
    for count, rows, _ in batches:
        epochs[next(i for i, e in enumerate(epochs) if len(e) < count)] += rows
    for e, rows in enumerate(epochs):
        assert sorted(rows) == sorted(private if e < 2 else reference)


def test_the_teacher_does_not_depend_on_the_reference_images():
    members = numbered_images()
    private, reference = data.hold_out(members.y, members.ids, 0.5, 0)
    teacher = weights(fit_numbered(DISTILLATION, members).loss.teacher)  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(teacher, weights(fit_numbered(DISTILLATION, changed(members, reference)).loss.teacher))  # pyright: ignore[reportAttributeAccessIssue]
    assert not torch.equal(teacher, weights(fit_numbered(DISTILLATION, changed(members, private)).loss.teacher))  # pyright: ignore[reportAttributeAccessIssue]


def test_the_student_depends_on_private_images_only_through_the_outputs_of_the_teacher(monkeypatch):
    """With constant outputs of the teacher, the student does not depend on the private images or on the teacher's training."""
    distillation_data = _DMP.distillation_data
    constant = lambda self, reference, logits: distillation_data(self, reference, torch.zeros_like(logits))  # noqa: E731
    monkeypatch.setattr(_DMP, "distillation_data", constant)
    members = numbered_images()
    private, reference = data.hold_out(members.y, members.ids, 0.5, 0)
    original, other = fit_numbered(DISTILLATION, members), fit_numbered(DISTILLATION, changed(members, private))
    assert torch.equal(weights(original.net), weights(other.net))
    a, b = (bound.optimizer.state_dict()["state"] for bound in (original, other))
    assert all(torch.equal(a[i]["momentum_buffer"], b[i]["momentum_buffer"]) for i in a)
    assert not torch.equal(weights(original.net), weights(fit_numbered(DISTILLATION, changed(members, reference)).net))


def test_the_student_starts_as_a_new_network_and_the_teacher_is_the_first_network():
    members = numbered_images()
    bound = fit_numbered(DISTILLATION | {"optimizer.lr": 0.0}, members)
    config = TrialConfig.of(TINY | DISTILLATION)
    first, second = (weights(build_net(config, members, torch.device("cpu"), stream)) for stream in ("weights", "student"))
    assert torch.equal(weights(bound.loss.teacher), first)  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(weights(bound.net), second) and not torch.equal(first, second)


@pytest.mark.parametrize("share, split", [(0.5, (4, 4)), (0.25, (2, 6))])
def test_each_phase_has_its_own_complete_schedule(share, split, monkeypatch):
    batches = record_batches(monkeypatch)
    fit_numbered(DISTILLATION | {"epochs": 8, "loss.teacher": share, "optimizer.schedule": "cosine", "batch_size": 16})
    expected = [0.05 * factor("cosine", e, length) for length in split for e in range(length)]
    assert [rate for _, _, rate in batches][::1] == pytest.approx(np.repeat(expected, len(batches) // 8).tolist())
    assert expected[split[0]] == 0.05


def test_a_run_resumed_in_either_phase_is_bit_identical():
    files = []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    params = DISTILLATION | {"epochs": 5, "loss.teacher": 0.4, "loss.keep": 0.7, "loss.temperature": 2.0}
    uninterrupted = fit_numbered(params, on_epoch=keep)
    assert uninterrupted.loss.teacher_epochs == 2  # pyright: ignore[reportAttributeAccessIssue]
    for file in files[:-1]:
        file.seek(0)
        resumed = fit_numbered(params, resume=torch.load(file, weights_only=True))
        assert torch.equal(weights(resumed.net), weights(uninterrupted.net))
        assert torch.equal(weights(resumed.loss), weights(uninterrupted.loss))


# -- transfer images of a generator ------------------------------------------------------------------------------------

GENERATED = DISTILLATION | {"loss.transfer": "acgan", "loss.gan_width": 2, "loss.gan_epochs": 2, "loss.generated": 0.6}


def test_with_a_generator_no_member_is_held_out(monkeypatch):
    batches, members = record_batches(monkeypatch), numbered_images()
    config = TrialConfig.of(TINY | GENERATED)
    assert config.reference == 0
    fit_numbered(GENERATED, members)
    teachers = [rows for _, rows, _ in batches[:6]]
    assert sorted(row for rows in teachers for row in rows) == sorted(2 * list(range(23)))
    assert [count for count, _, _ in batches[6:]] == [14] * 4  # two epochs of two batches


def test_the_student_is_trained_on_images_of_a_generator_that_is_trained_on_the_members_alone(monkeypatch):
    """The AC-GAN is trained here again, by its own function and without any teacher."""
    batches, members = [], numbered_images()
    augmented = train._augmented

    def record(bound, pool, rows, stream):
        batches.append(pool)
        return augmented(bound, pool, rows, stream)

    monkeypatch.setattr(train, "_augmented", record)
    bound = fit_numbered(GENERATED | {"seed": 5}, members)
    never = torch.nn.Linear(1, 1)
    generator = train_generator(never, members.x, members.y, 3, w=0.0, epochs=2, width=2, seed=5)
    assert torch.equal(weights(generator), weights(bound.loss.generator))
    ids = torch.arange(14)
    expected = generator.sample(ids % 3, rng.per_image(5, "dmp", "transfer", ids=ids))
    student = batches[-1]
    assert student.x.dtype == torch.uint8 and (student.x.float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(student.y, bound.loss.teacher(student.x.float() / 255).softmax(1).detach())


def test_by_default_there_are_as_many_generated_images_as_members():
    part = DMP(transfer="acgan", gan_width=2).bind(context())
    members = numbered_images()
    transfer = part.transfer_images(members, members.at(torch.arange(0)), 0)
    assert len(transfer.y) == 23 and transfer.y.bincount().tolist() == [8, 8, 7]


def test_a_run_with_a_generator_that_is_resumed_is_bit_identical():
    files = []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    uninterrupted = fit_numbered(GENERATED, on_epoch=keep)
    for file in files[:-1]:
        file.seek(0)
        resumed = fit_numbered(GENERATED, resume=torch.load(file, weights_only=True))
        assert torch.equal(weights(resumed.net), weights(uninterrupted.net))


@pytest.mark.parametrize(
    "params", [{"epochs": 1}, {"epochs": 10, "optimizer.stop_at": 0.5}, {"epochs": 10, "optimizer.stop_at": 0.0}]
)
def test_a_run_that_ends_before_the_first_epoch_of_the_student_is_rejected(params):
    with pytest.raises(InputError, match="would return the teacher") as caught:
        TrialConfig.of({"loss": "dmp", **params})
    assert "\n" not in str(caught.value)
    TrialConfig.of({"loss": "dmp", "epochs": 2})
    TrialConfig.of({"loss": "dmp", "epochs": 10, "optimizer.stop_at": 0.51})
