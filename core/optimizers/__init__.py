"""The `optimizer` slot: the update rule of the network's weights, its schedule, and early stopping.

The loop that calls it belongs in `core.train`; stopping trials of a study early belongs in `trainables.search`.
"""

from core.optimizers.dp_sgd import DPSGD
from core.optimizers.standard import SGD, Adam

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "dp_sgd": DPSGD}
