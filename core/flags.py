"""Reasons not to believe a trial's numbers: what each flag means, what to do, and whether it keeps the trial off the front."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One reason."""

    means: str
    advice: str
    bars: bool = True
    """The trial is on no front. Otherwise it enters with the lowest accuracy that any attack reached, and is marked."""


FLAGS: dict[str, Flag] = {
    "at_chance": Flag(
        "its accuracy cannot be told from that of always naming the commonest class",
        "train longer, or lower optimizer.lr or the radius that it trains with",
    ),
    "split_overlap": Flag("members are among the images that it is judged on", "report this: it is a bug"),
    "zero_gradients": Flag(
        "over 1 % of its images give an input gradient that is zero or not finite, so gradient attacks stand still",
        "look for quantisation, saturation or a hard threshold in the network; attack without it, or judge.suite=strong",
    ),
    "saturated_logits": Flag(
        "half of its images have log-odds above 88, where the float32 softmax of every other class is zero",
        "lower optimizer.lr or add weight decay; a cross-entropy attack or a confidence audit by others would see nothing",
    ),
    "random_forward": Flag(
        "the same images give other logits when asked again, so an attack chases noise",
        "make the network deterministic in evaluation mode, or attack the mean of many passes",
    ),
    "fgsm_beats_pgd": Flag(
        "one step fools more images than many do, beyond chance",
        "raise judge.steps and judge.restarts; a loss surface this rough hides adversarial images",
    ),
    "fgsm_overfitted": Flag(
        "it learned to stand FGSM's one step: over half of what stands it falls to PGD, or a shorter step fools more than the full",
        "train with perturbation=pgd or rfgsm, or raise perturbation.alpha; FGSM numbers of this network mean nothing",
    ),
    "black_box_beats_white_box": Flag(
        "a black-box attack fools over 3 % of the images after the gradient attacks have had their turn",
        "the gradients mislead; judge.suite=strong, and an attack adapted to what hides them",
    ),
    "large_epsilon_stands": Flag(
        "in a ball so large that every image can be made plain grey, it is still right more often than chance",
        "the gradients mislead; look for what stops them (rounding, clipping, randomness)",
    ),
    "more_steps_help": Flag(
        "twice the steps from a new start fool over 1 % more: the attack has not converged, the true number is lower",
        "raise judge.steps and judge.restarts, or rejudge with --suite strong",
        bars=False,
    ),
    "generator_silent": Flag(
        "the generator made almost no perturbation in some epoch, so GAT was ordinary training there",
        "lower perturbation.c_g or raise perturbation.lr_g",
        bars=False,
    ),
    "audit_is_blind": Flag(
        "an audit does not find the members of networks that have memorised them, so a low AUC of it means nothing",
        "report this with the study's folder; until then quote the threshold audits only",
    ),
    "audit_is_biased": Flag(
        "an audit finds members where membership is shuffled, so its AUC is not about the network",
        "report this with the study's folder; until then quote the threshold audits only",
    ),
    "audit_lacks_models": Flag(
        "some of its shadow models could not be trained, so the audit by them is weaker than asked for",
        "see why they failed in the terminal's lines, and start the same command again",
        bars=False,
    ),
    "auc_below_half": Flag(
        "a threshold audit is significantly worse than guessing; the AUC is counted from the other side",
        "look at the audit's ROC curve: members look less confident than others",
        bars=False,
    ),
    "few_non_members": Flag(
        "fewer than 10 non-members lie beyond a false-positive rate of 1 %, so no true-positive rate is given there",
        "judge on more images (judge.part=both, a larger pool): mia_tpr_at_fpr_0.01 needs 1,000 non-members",
        bars=False,
    ),
}


def raised(metrics) -> list[str]:
    """Names of the flags that are up in a trial's metrics."""
    return [name.removeprefix("flag/") for name, value in metrics.items() if name.startswith("flag/") and value]
