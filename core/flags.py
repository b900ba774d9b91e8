"""Flags: reasons to distrust a trial's numbers, each with its meaning, advice, and effect on the Pareto front."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One reason to distrust a trial's numbers."""

    means: str
    """Reason for the distrust, a clause that is shown after the name of the flag."""
    advice: str
    """Remedies, a clause that is shown after the reason."""
    excludes: bool = True
    """Whether the flag excludes the trial from every front. Otherwise the trial is only marked, and its numbers are the most
    pessimistic ones that were measured."""


FLAGS: dict[str, Flag] = {
    "at_chance": Flag(
        "the network's accuracy is not significantly above that of always predicting the most common class",
        "train longer, or lower optimizer.lr or the radius of adversarial training",
    ),
    "split_overlap": Flag(
        "some images, or exact copies of them, are in more than one of members, val, test and the shadow pool", "report this bug"
    ),
    "zero_gradients": Flag(
        "more than 1 % of the images have an input gradient that is zero or not finite, so gradient attacks cannot move them",
        "check the network for quantisation, saturation or hard thresholds; attack it without them, or use judge.suite=strong",
    ),
    "saturated_logits": Flag(
        "half of the images have log-odds above 88, where the float32 softmax of every other class is zero",
        "lower optimizer.lr or add weight decay; other tools' cross-entropy attacks and confidence audits would fail on it",
    ),
    "random_forward": Flag(
        "two forward passes of the same images give different logits, so attacks follow noise",
        "make the network deterministic in evaluation mode, or attack the mean of many passes",
    ),
    "fgsm_beats_pgd": Flag(
        "one attack step fools significantly more images than many steps",
        "raise judge.steps and judge.restarts; a loss surface as rough as this hides adversarial images",
    ),
    "fgsm_overfitted": Flag(
        "the network is robust to FGSM's single step only: PGD or a shorter step fools most of the images that FGSM does not",
        "train with perturbation=pgd or rfgsm, or raise perturbation.alpha; disregard FGSM numbers of this network",
    ),
    "black_box_beats_white_box": Flag(
        "a black-box attack fools over 3 % of the images after all gradient attacks have run",
        "the network's gradients are misleading; use judge.suite=strong, and an adaptive attack on the mechanism that hides them",
    ),
    "large_epsilon_stands": Flag(
        "the network is more accurate than chance even in a ball so large that every image can be turned into plain grey",
        "the network's gradients are misleading; find the cause (rounding, clipping, randomness)",
    ),
    "more_steps_help": Flag(
        "twice the steps from a new start fool over 1 % more: the attack has not converged, and the true number is lower",
        "raise judge.steps and judge.restarts, or run studies/rejudge.py with --suite strong",
        excludes=False,
    ),
    "generator_silent": Flag(
        "the generator made almost no perturbation in some epoch, so GAT was ordinary training there",
        "lower perturbation.c_g or raise perturbation.lr_g",
        excludes=False,
    ),
    "batch_dependent": Flag(
        "the same images have other logits in another order and in batches of other sizes, so an answer depends on the rest of "
        "its batch, and audits that query members and non-members in separate batches measure the batches",
        "make the answer to an image independent of its batch: in evaluation mode, use the stored statistics of batch norm",
    ),
    "recognises_members": Flag(
        "under noise of a few grey levels, the answers to members jump and those to other images do not: the network looks up its "
        "training images and answers them differently, which hides them from every audit that queries the exact images",
        "remove the lookup; until then, trust only audits that query changed images, such as loss_adversarial and lira_adversarial",
    ),
    "masked_confidence": Flag(
        "confidences of different images are tied, rounded, clipped or replaced by noise, which blinds audits that rank images by "
        "confidence, while predicted labels still reveal members; mia_auc includes the label-only audit, label_only",
        "return the logits unchanged; masking hides a leak without reducing it, as queries for labels alone show",
    ),
    "audit_is_blind": Flag(
        "an audit does not detect the members of simulated models that memorised them, so its low AUC is no evidence of privacy",
        "report this bug with the study's folder; until it is fixed, rely on the threshold audits only",
    ),
    "audit_is_biased": Flag(
        "an audit detects members after membership has been permuted, so its AUC does not measure the network",
        "report this bug with the study's folder; until it is fixed, rely on the threshold audits only",
    ),
    "audit_lacks_models": Flag(
        "some sibling replicates or shadow models are missing, so the audits by other networks are weaker than requested",
        "check in the terminal output why they failed, and run the same command again",
        excludes=False,
    ),
    "auc_below_half": Flag(
        "an audit is significantly worse than guessing, corrected for the number of audits; its AUC is counted as 1 - AUC",
        "inspect the audit's ROC curve: members appear less confident than non-members",
        excludes=False,
    ),
    "leak_not_resolved": Flag(
        "no audit is better than the chance level, which the largest AUC exceeds in one of twenty networks without any leak; "
        "its AUC counts as that level",
        "evaluate on more images (judge.part=both, a larger pool), or with more audits; the leak may be smaller than this",
        excludes=False,
    ),
    "few_non_members": Flag(
        "fewer than 10 non-members are expected beyond a false-positive rate of 1 %, so no true-positive rate is reported there",
        "evaluate on more images (judge.part=both, a larger pool): mia_tpr_at_fpr_0.01 needs 1,000 non-members",
        excludes=False,
    ),
    "not_audited": Flag(
        "the split has no non-members that are drawn like the members, so no audit could tell memory from a difference of the data",
        "raise split.val, or use split=stratified",
        excludes=False,
    ),
}


def raised(metrics: Mapping[str, float]) -> list[str]:
    """Names of the flags that a trial's metrics raise."""
    return [name.removeprefix("flag/") for name, value in metrics.items() if name.startswith("flag/") and value]
