"""The `loss` slot: a function of logits and features that training minimises. One method per file.

Terms that are added to any loss belong in `core.regularizers`.
"""

from core.losses.centre_loss import CentreLoss
from core.losses.confidence_penalty import ConfidencePenalty
from core.losses.crl import CRL, ImpRelaxLoss
from core.losses.cross_entropy import CrossEntropy
from core.losses.dmp import DMP
from core.losses.label_smoothing import LabelSmoothing
from core.losses.relaxloss import RelaxLoss

LOSSES = {
    "cross_entropy": CrossEntropy,
    "label_smoothing": LabelSmoothing,
    "confidence_penalty": ConfidencePenalty,
    "relaxloss": RelaxLoss,
    "imp_relaxloss": ImpRelaxLoss,
    "centre_loss": CentreLoss,
    "crl": CRL,
    "dmp": DMP,
}
