"""The `perturbation` slot: perturbed images on which the loss is also computed.

Attacks for evaluation belong in `core.attacks`.
"""

from core.perturbations.adversarial import FGSM, PGD, RFGSM, Noise, NoPerturbation
from core.perturbations.gat import GAT

PERTURBATIONS = {"none": NoPerturbation, "noise": Noise, "fgsm": FGSM, "rfgsm": RFGSM, "pgd": PGD, "gat": GAT}
