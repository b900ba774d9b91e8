"""The `regularizer` slot: a term that is added to the loss.

Terms that replace the loss belong in `core.losses`.
"""

from core.regularizers.activation_sparsity import ActivationSparsity
from core.regularizers.advreg import AdvReg
from core.regularizers.bpfc import BPFC
from core.regularizers.elastic_net import L1, L2, ConvexElasticNet, ElasticNet, NoRegularizer
from core.regularizers.rss import RSS

REGULARIZERS = {
    "none": NoRegularizer,
    "bpfc": BPFC,
    "l1": L1,
    "l2": L2,
    "elastic_net": ElasticNet,
    "convex_elastic_net": ConvexElasticNet,
    "activation_sparsity": ActivationSparsity,
    "rss": RSS,
    "advreg": AdvReg,
}
