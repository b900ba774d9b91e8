"""Attacks that are requested by name with their settings: what they run, and how wrong requests are refused."""

import pytest
import torch
from torch import nn

from core import data, rng
from core.attacks.ball import inside
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import fgsm, ifgsm, pgd, rfgsm
from core.attacks.named import ATTACKS, attacks_of
from core.attacks.suite import run_suite
from core.config import TrialConfig
from core.errors import InputError
from core.trial import run

SHORT = {"square": ":queries=20", "spsa": ":samples=4:steps=2", "cw": ":steps=5:search_steps=1", "hop_skip_jump": ":steps=1"}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 20), nn.Tanh(), nn.Linear(20, 5)).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, network()(x).argmax(1)


def images_of(text: str, epsilon: float = 0.1, norm: str = "linf") -> torch.Tensor:
    """Adversarial images of the only attack in a text."""
    ((name, attack),) = attacks_of(text).items()
    x, y = batch()
    return attack(network(), x, y, epsilon, norm, draw(name, len(x)))


def draw(name: str, n: int) -> rng.PerImage:
    return rng.per_image(0, "attack", ids=torch.arange(n)).named(name)


@pytest.mark.parametrize(("text", "expected"), [
    ("fgsm", lambda n, x, y: fgsm(n, x, y, epsilon=0.1)),
    ("ifgsm:steps=4", lambda n, x, y: ifgsm(n, x, y, epsilon=0.1, steps=4, stop_when_fooled=True)),
    ("rfgsm:start=8/255", lambda n, x, y: rfgsm(n, x, y, epsilon=0.1, start=8 / 255, draw=draw("rfgsm_start_8_255", 40))),
    (
        "pgd:steps=5:step_size=0.03:random_start=false",
        lambda n, x, y: pgd(n, x, y, epsilon=0.1, steps=5, step_size=0.03, stop_when_fooled=True),
    ),
    (
        "pgd:steps=3:restarts=2:loss=cw",
        lambda n, x, y: pgd(
            n, x, y, epsilon=0.1, steps=3, restarts=2, loss="cw", draw=draw("pgd_steps_3_restarts_2_loss_cw", 40),
            stop_when_fooled=True,
        ),
    ),
])  # fmt: skip
def test_settings_reach_the_attack(text, expected):
    assert torch.equal(images_of(text), expected(network(), *batch()))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_attack_stays_in_the_ball_and_has_a_verdict(name, norm):
    if (name, norm) == ("rfgsm", "l2"):
        pytest.skip("it is defined in Linf; judge settings refuse it")
    x, y = batch()
    epsilon = 0.1 if norm == "linf" else 0.6
    attacks = attacks_of(f"{name}{SHORT.get(name, '')}")
    result = run_suite(network(), x, y, attacks, epsilon=epsilon, norm=norm)
    assert list(result.robust) == list(attacks) and result.clean.all()
    assert inside(images_of(f"{name}{SHORT.get(name, '')}", epsilon, norm), x, epsilon, norm)


@pytest.mark.parametrize(("text", "free"), [
    ("deepfool", deepfool), ("cw:steps=200", lambda n, x, y: carlini_wagner(n, x, y, steps=200)),
])  # fmt: skip
def test_attacks_without_a_ball_fool_the_images_whose_perturbation_is_inside_it(text, free):
    x, y = batch()
    length = (free(network(), x, y) - x).flatten(1).norm(dim=1)
    epsilon = length.median().item()
    (robust,) = run_suite(network(), x, y, attacks_of(text), epsilon=epsilon, norm="l2").robust.values()
    assert torch.equal(robust, length > epsilon * (1 + 1e-4)) and 0.3 < robust.double().mean() < 0.7


def test_each_attack_runs_on_all_images():
    x, y = batch()
    both = run_suite(network(), x, y, attacks_of("pgd+noise"), epsilon=0.05)
    alone = run_suite(network(), x, y, attacks_of("noise"), epsilon=0.05)
    assert torch.equal(both.robust["noise"], alone.robust["noise"])
    assert (both.robust["noise"] & ~both.robust["pgd"]).any()  # PGD came first, and has fooled more


@pytest.mark.parametrize(("text", "message"), [
    ("pdg", "pdg"), ("pgd:step=3", "setting of the attack pgd"), ("pgd:steps", "setting of the attack pgd"),
    ("fgsm:steps=3", r"it has none"), ("pgd:steps=0", r"attack pgd: steps=0 is outside"), ("pgd:steps=many", "steps takes int"),
    ("pgd:loss=hinge", "attack pgd: .*hinge"), ("fgsm+fgsm", "fgsm is listed twice"), ("apgd:restarts=0", "restarts=0"),
])  # fmt: skip
def test_wrong_requests_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        attacks_of(text)


@pytest.mark.parametrize(("settings", "message"), [
    ({"judge.attacks": "pdg"}, "unknown attack 'pdg'"),
    ({"judge.suite": "none"}, "suite=none runs no attack unless attacks lists one"),
    ({"judge.attacks": "rfgsm", "judge.norm": "l2"}, "rfgsm is defined in Linf"),
])  # fmt: skip
def test_a_configuration_with_wrong_attacks_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrialConfig.of(settings)


def test_a_trial_reports_the_listed_attacks_after_those_of_its_suite_or_alone():
    tiny = {"epochs": 1, "net.width": 4, "judge.images": 8, "judge.steps": 2, "judge.attacks": "ifgsm:steps=3+noise"}
    digits = data.load("digits")
    names = []
    for suite in ("quick", "none"):
        metrics = run(TrialConfig.of({**tiny, "judge.suite": suite}), digits).metrics.values
        names.append([name.removeprefix("robust_accuracy/") for name in metrics if name.startswith("robust_accuracy/")])
        listed = [metrics["robust_accuracy/ifgsm_steps_3"], metrics["robust_accuracy/noise"]]
        assert metrics["robust_accuracy"] <= min(listed)
    assert names[1] == ["ifgsm_steps_3", "noise"] and set(names[0]) > set(names[1])


def test_the_number_of_random_starts_is_that_of_the_evaluation_unless_the_attack_has_its_own():
    assert attacks_of("pgd", restarts=3)["pgd"].knobs["restarts"] == 3
    assert attacks_of("pgd:restarts=2", restarts=3)["pgd_restarts_2"].knobs["restarts"] == 2
    assert attacks_of("pgd:random_start=false", restarts=3)["pgd_random_start_false"].knobs["restarts"] == 0
