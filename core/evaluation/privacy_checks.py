"""Flags of concealed membership: signs that a network hides from the audits which images it was trained on.

The audits take three properties of a network for granted: its answer to an image depends on this image alone, it changes gradually
with the image, and confidences are continuous numbers. A network without one of them can reveal its members and still have an AUC
near one half. Each check takes a few forward passes of at most `PROBE` members and as many non-members.

Each flag is documented in `core.flags.FLAGS`. `tests/core/evaluation/test_privacy_checks_honest.py` trains a hundred networks that
conceal nothing, from a single epoch to perfectly fitted members, and none of them raises a flag.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.audits import scores
from core.data import Images
from core.modes import as_float, predict
from core.stats import wilson

PROBE = 128
"""Number of members, and of non-members, that are queried again."""
VISIBLE = 0.05
"""Change of logits that counts, in units of their spread. Rounding to TensorFloat-32 in all convolutions changed them by up to
0.035 (MobileNet; ResNet-18: 0.010), another size of the batch in float32 by 4e-5."""
FLOATING_POINT = 1e-5
"""Change of logits that counts at least, in units of their size, for networks whose answers hardly differ between images."""
STEPS = (1, 8)
"""Lengths of a first step along a line of noise, in grey levels (1/255); a second one of the same length follows. After 8 and 16
levels an image has also left the neighbourhood in which an approximate lookup recognises it."""
JUMP = 4.0
"""Multiple of the third quartile of the non-members' bends above which the answer to an image jumps."""
RECOGNITION_LEVEL = 1e-4
"""Level of the test that members jump more often than non-members."""
ROUNDING = 2.5e-7
"""Difference that counts as a tie, in units of the logits' size: about two units in the last place of float32."""
MIN_TIED = 0.05
"""Share of tied confidences among the non-members that must be exceeded significantly."""
CROWD_WIDTH = 0.01
"""Difference within which confidences are crowded, in units of the logits' spread."""
MIN_CROWDED = 0.4
"""Share of the non-members with crowded confidences that must be exceeded significantly."""


def privacy_flags(
    net: nn.Module, members: Images, others: Images, member_logits: Tensor, other_logits: Tensor, *, seed: int = 0
) -> dict[str, bool]:
    """The flags of concealed membership of one network.

    Args:
        net: images -> logits, on the images' device; queried in evaluation mode and returned to its own mode.
        members: its training images.
        others: images that it was not trained on.
        member_logits: the logits from which the audits compute their scores of the members, [M, C].
        other_logits: the same for the other images, [N, C].
        seed: seed of the noise and of the order of the second query.

    Returns:
        Whether each flag is raised, by name.
    """
    members, others = _first(members), _first(others)
    known = [logits[:PROBE].double() for logits in (member_logits, other_logits)]
    x, logits = torch.cat([members.x, others.x]), torch.cat(known)
    visible = visible_change(logits)
    inside, outside = _answers(net, members, seed), _answers(net, others, seed)
    _, distinct = np.unique(others.ids.cpu().numpy(), return_index=True)  # exact copies have equal answers
    rows = torch.from_numpy(distinct).to(others.y.device)
    return {
        "batch_dependent": depends_on_batch(net, x[::2], logits[::2], seed=seed),
        "recognises_members": any(jump_more_often(bends(inside, step), bends(outside, step), visible) for step in STEPS),
        "masked_confidence": is_masked(known[1][rows], others.y[rows]) or is_noise(outside, known[1], visible),
    }


def _first(images: Images) -> Images:
    return images.at(torch.arange(min(PROBE, len(images.y)), device=images.x.device))


def spread(logits: Tensor) -> float:
    """Standard deviation of logits over images, without the part that all classes share; root mean square over classes."""
    return _centred(logits).var(0, unbiased=False).mean().sqrt().item()


def visible_change(logits: Tensor) -> float:
    """Smallest change of logits that counts, given the logits of different images, [N, C]."""
    return max(VISIBLE * spread(logits), FLOATING_POINT * size(logits))


def size(logits: Tensor) -> float:
    """Median over images of the largest absolute logit; the resolution of float32 is proportional to it."""
    return logits.abs().amax(1).median().item()


def _centred(logits: Tensor) -> Tensor:
    """Logits less the mean over the classes, to which the softmax is blind."""
    return logits - logits.mean(1, keepdim=True)


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """Largest difference of two answers to each image, [N]."""
    return (_centred(one) - _centred(other)).abs().amax(1)


# -- answers that depend on the batch ------------------------------------------------------------------------------------------


def depends_on_batch(net: nn.Module, x: Tensor, known: Tensor, *, seed: int = 0) -> bool:
    """Whether images in another order and in batches of other sizes have other logits than before.

    The new batches are queried twice. A network with a random forward pass differs as much between these two queries as from the
    known logits, which is no sign of a dependence on the batch; `core.evaluation.masking.is_random` detects it.

    Args:
        net: images -> logits.
        x: images, uint8 or in [0, 1], [N, c, h, w].
        known: their logits in other batches, [N, C].
        seed: seed of the order.
    """
    order = torch.randperm(len(x), generator=rng.generator(seed, "second_query")).to(x.device)
    batches = [*order[:8].split(1), *filter(len, order[8:].split(24))]
    try:
        first, again = (torch.cat([predict(net, x[rows]) for rows in batches]).double() for _ in range(2))
    except ValueError:  # batch statistics of a single image do not exist
        return True
    noise = _difference(first, again).amax().nan_to_num()
    limit = visible_change(known) + 4 * noise
    return not bool((_difference(first, known[order]) <= limit).all())  # NaN is a difference


# -- training images that are recognised ---------------------------------------------------------------------------------------


def _answers(net: nn.Module, part: Images, seed: int) -> dict[int, Tensor]:
    """Logits at points on a line through each image, by the number of grey levels from the image, float64 [N, C].

    The direction has one random sign per pixel, and points away from black and from white where it would leave [0, 1].
    """
    x, levels = as_float(part.x), sorted({0, *STEPS, *(2 * step for step in STEPS)})
    noise = rng.per_image(seed, "grey_levels", ids=part.ids.to(x.device)).signs(*x.shape[1:]).to(x) / 255
    farthest = x + levels[-1] * noise
    noise = torch.where((farthest < 0) | (farthest > 1), -noise, noise)
    return {level: predict(net, x + level * noise).double() for level in levels}


def bends(answers: dict[int, Tensor], step: int) -> Tensor:
    """Largest difference between the change of an image's logits in the first step and that in the second, [N].

    It is small for a smooth function and as large as the jump for one that jumps in between.
    """
    return _difference(answers[2 * step] - answers[step], answers[step] - answers[0])


def jump_more_often(members: Tensor, others: Tensor, visible: float) -> bool:
    """Whether the answers to members jump significantly more often than those to non-members.

    An answer jumps if its bend is `JUMP` times the third quartile of the non-members' bends. A network that looks up its training
    images stops recognising them once they have changed, and answers as to other images; whether the lookup lowers the
    confidence on members or leaves it and raises it elsewhere makes no difference. A network that merely fits its members
    closely is as smooth around them as around other images. The shares are compared by Fisher's exact test.

    Args:
        members, others: bends in the same step, [M] and [N].
        visible: bend below which no answer jumps.
    """
    limit = max(JUMP * others.quantile(0.75).item(), visible)
    jumps, other_jumps = int((~(members <= limit)).sum()), int((~(others <= limit)).sum())
    return _fisher(jumps, len(members), other_jumps, len(others)) < RECOGNITION_LEVEL / len(STEPS)


def _fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Fisher's exact test that the first share is not larger than the second: its one-sided p-value."""
    total = hits + other_hits
    ways = sum(math.comb(n, k) * math.comb(other_n, total - k) for k in range(hits, min(n, total) + 1))
    return ways / math.comb(n + other_n, total)


# -- confidence that is masked -------------------------------------------------------------------------------------------------


def is_masked(logits: Tensor, y: Tensor) -> bool:
    """Whether confidences of different images are tied, or crowded at one value, as those of continuous outputs are not.

    Only images outside the training set count: with label smoothing, the confidences of perfectly fitted members approach one value
    without any mask, while a mask that spares other images would reveal the members. All numbers are differences of logits or
    log-odds, so confident predictions whose float32 softmax is 1 are not tied. Images whose features are all zero (dead
    rectifiers) have one answer in common; it does not count as a tie unless most of these images are classified correctly.

    Args:
        logits: logits of different non-members, float64 [N, C].
        y: their labels, [N].
    """
    tolerance = ROUNDING * size(logits)
    varied = ~_constant_answer(logits, y, 4 * tolerance)
    logits = logits[varied]
    if len(logits) < 2:
        return False
    confidence = scores.log_odds(logits, logits.argmax(1))
    gaps = logits.sort(1, descending=True).values.diff(dim=1).unbind(1)
    worst = max(_tied(confidence, tolerance), sum(_tied(gap, tolerance) for gap in gaps) / len(gaps))
    crowded = max(_crowded(values, CROWD_WIDTH * spread(logits)) for values in (confidence, gaps[0]))
    n = len(logits)
    return wilson(round(worst * n), n).low > MIN_TIED or wilson(round(crowded * n), n).low > MIN_CROWDED


def _constant_answer(logits: Tensor, y: Tensor, tolerance: float) -> Tensor:
    """Images with the most frequent answer, if at least two have it and not most of them are classified correctly; [N] bool."""
    same = torch.cdist(logits, logits, p=math.inf) <= tolerance
    group = same[same.sum(1).argmax()]
    count, correct = int(group.sum()), int((logits.argmax(1) == y)[group].sum())
    return group if count > 1 and wilson(correct, count).low <= 0.5 else torch.zeros_like(group)


def _tied(values: Tensor, tolerance: float) -> float:
    """Share of values that another one equals to within a tolerance."""
    steps = values.sort().values.diff() <= tolerance
    no = steps.new_zeros(1)
    return (torch.cat([no, steps]) | torch.cat([steps, no])).double().mean().item()


def _crowded(values: Tensor, width: float) -> float:
    """Largest share of values in an interval of a width."""
    values = values.sort().values
    counts = torch.searchsorted(values, values + width, right=True) - torch.arange(len(values), device=values.device)
    return counts.max().item() / len(values)


def is_noise(answers: dict[int, Tensor], known: Tensor, visible: float) -> bool:
    """Whether answers to non-members follow a fixed noise rather than the image.

    One grey level then changes most of them by more than half of the change by eight levels; it is an eighth for a smooth function.
    Changes that a second query of the same image shows as well do not count: the noise is not fixed, or depends on the batch.

    Args:
        answers: logits by the number of grey levels, [N, C] each; see `STEPS`.
        known: logits from an earlier query of the images, [N, C].
        visible: change that counts.
    """
    one, eight = (_difference(answers[level], answers[0]) for level in STEPS)
    noisy = (one > eight / 2) & (one > visible + _difference(answers[0], known))
    return wilson(int(noisy.sum()), len(noisy)).low > 0.5
