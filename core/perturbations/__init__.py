"""The `perturbation` slot: which other images the loss also sees."""

from core.perturbations.adversarial import FGSM, PGD, RFGSM, Noise, NoPerturbation
from core.perturbations.gat import GAT

PERTURBATIONS = {"none": NoPerturbation, "noise": Noise, "fgsm": FGSM, "rfgsm": RFGSM, "pgd": PGD, "gat": GAT}
