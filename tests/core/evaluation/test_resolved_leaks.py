"""The scores and the chance level of the audits of a trial."""

import functools

import torch
from torch import nn

from core import data, pareto, trial
from core.audits.chance import chance_level
from core.audits.evidence import stored_scores
from core.config import TrialConfig
from core.evaluation.judge import judge
from core.study import trilemma
from core.train import train

torch.set_num_threads(1)

CONFIG = TrialConfig.of({"epochs": 3, "net.width": 4, "judge.steps": 2, "judge.images": 30})


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def result():
    return trial.run(CONFIG, pool())


def judge_network(net):
    """The evaluation of any network."""
    bound = train(CONFIG.set({"epochs": 1}), pool().at(parts().shadow), pool().at(parts().val))
    bound.net = net or bound.net
    return judge(CONFIG, bound, pool(), parts())


def test_the_stored_scores_give_every_auc_and_the_chance_level_of_the_largest():
    (group,) = stored_scores(result().predictions)
    assert {name: roc.auc for name, roc in group.rocs().items()} == {
        name.removeprefix("mia_auc/"): value for name, value in result().metrics.values.items() if name.startswith("mia_auc/")
    }
    assert set(group.rows[group.member]) == set(parts().members) and set(group.rows[~group.member]) == set(parts().val)
    assert result().metrics["mia_auc_chance"] == chance_level([group]) > 0.52


def test_a_network_that_has_not_seen_the_members_has_a_leak_that_is_not_resolved_and_counts_as_the_chance_level():
    unseen, memorised = (judge_network(net).metrics for net in (None, Memoriser()))
    assert unseen["flag/leak_not_resolved"] == 1 and unseen["mia_auc"] <= unseen["mia_auc_chance"]
    assert memorised["flag/leak_not_resolved"] == 0 and memorised["mia_auc"] > 0.9
    auc = trilemma(10)[2]
    assert auc.loss_of(unseen.values) == auc.loss(unseen["mia_auc_chance"]) > auc.loss(unseen["mia_auc"])
    assert "flag/leak_not_resolved" not in pareto.EXCLUDING_FLAGS


class Memoriser(nn.Module):
    """Certain of the label of every member, and undecided about every other image."""

    def forward(self, x):
        members = pool().at(parts().members)
        known = (x.flatten(1)[:, None] - (members.x.flatten(1).float() / 255)[None]).abs().amax(2) < 1e-3
        label = members.y[known.float().argmax(1)]
        return nn.functional.one_hot(label, 10).float() * known.any(1, keepdim=True) * 9
