"""Evaluation mode, and predictions in it."""

import pytest
import torch
from tiny_training import images
from torch import nn

from core import nets
from core.modes import eval_mode, predict

torch.set_num_threads(1)


def test_predictions_are_made_in_evaluation_mode_and_do_not_change_the_mode():
    torch.manual_seed(0)
    net = nets.build(nets.NETS["vgg11_bn"](), (3, 32, 32), 3).train()
    x = images(5, shape=(3, 32, 32)).x
    first = predict(net, x)
    assert torch.equal(first, predict(net, x))
    torch.testing.assert_close(first, predict(net, x.float() / 255, batch_size=2))
    assert net.training and net.body[1].training and net.body[1].num_batches_tracked == 0


def test_eval_mode_restores_modes_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    modes = [m.training for m in net.modules()]
    with pytest.raises(RuntimeError), eval_mode(net):
        raise RuntimeError
    assert [m.training for m in net.modules()] == modes
