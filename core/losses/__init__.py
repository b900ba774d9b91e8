"""The `loss` slot: what is minimised on logits and features. One method per file."""

from core.losses.crl import CRL
from core.losses.cross_entropy import CrossEntropy
from core.losses.relaxloss import RelaxLoss

LOSSES = {"cross_entropy": CrossEntropy, "relaxloss": RelaxLoss, "crl": CRL}
