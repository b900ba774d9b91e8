"""The `perturbation` slot: which other images the loss also sees."""

from core.perturbations.adversarial import FGSM, PGD, NoPerturbation

PERTURBATIONS = {"none": NoPerturbation, "fgsm": FGSM, "pgd": PGD}
