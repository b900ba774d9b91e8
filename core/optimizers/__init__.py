"""The `optimizer` slot: the update rule of the network's weights, its schedule, and when it stops."""

from core.optimizers.dp_sgd import DPSGD
from core.optimizers.standard import SGD, Adam

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "dp_sgd": DPSGD}
