"""The protocols by which a pool is drawn into members, val, test and shadow images; `SPLITS` maps names to settings.

The draws depend on labels and row numbers only; exact copies are dealt with afterwards, in `core.data.splits`. `test` depends on
neither the replicate nor the shadow model, so no network of a study is trained on it.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from core.data.images import Images
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.rng import fold

PARTS = ("members", "val", "test", "shadow")
"""Names of the parts that a protocol draws."""
ALL_PARTS = (*PARTS, "selection")
"""Names of the parts of `Parts`."""
_TINY = 1e-9  # rounding error of a sum of shares


@dataclass(frozen=True)
class Parts:
    """Disjoint sets of row numbers of a pool."""

    members: np.ndarray
    val: np.ndarray
    test: np.ndarray
    shadow: np.ndarray
    test_is_exchangeable: bool = True
    """Whether `test` is drawn from the same images as the members."""
    selection: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Images that were drawn into `val` and choose the epoch of a training; they are judged and audited by nothing."""

    def judged(self, part: str) -> np.ndarray:
        """The non-members that `judge.part` names."""
        if part != "both":
            return getattr(self, part)
        return np.random.Generator(np.random.PCG64(0)).permutation(np.concatenate([self.val, self.test]))

    def non_members(self, part: str) -> np.ndarray:
        """The non-members by which membership is audited when `part` is judged.

        They are the judged images, or `val` if `test` is not drawn like the members: an audit would then measure how the two
        groups of images differ, as well as what the network remembers. Empty if there is no `val` either.
        """
        return self.judged(part) if self.test_is_exchangeable else self.val


@knobs
class Stratified:
    """Parts of chosen sizes, in which every class has the same share to within one image; images beyond them are not used.

    A size is a share of the pool if it is at most 1, and otherwise a number of images.
    """

    members: Annotated[float, Bounds(0)] = 0.25
    """Size of the training set."""
    val: Annotated[float, Bounds(0)] = 0.125
    """Number or share of the non-members on which a sweep evaluates, and with which replicates exchange members; with 0, all
    replicates have the same members."""
    test: Annotated[float, Bounds(0)] = 0.125
    """Number or share of the non-members that only the confirmation step uses."""
    shadow: Annotated[float, Bounds(0)] = 0.5
    """Number or share of the images of shadow models, each of which is trained on half of them; 0 if there are none."""

    def check(self) -> None:
        """Reject sizes that are not whole numbers of images, empty parts that every study needs, and shares above 1 in total."""
        sizes = {name: getattr(self, name) for name in PARTS}
        for name, size in sizes.items():
            _check_size(name, size, "pool")
            if not size and name in ("members", "test"):
                raise InputError(f"{name}=0 leaves no images for {name}, which every study needs")
        shares = [size for size in sizes.values() if size <= 1]
        if sum(shares) > 1 + _TINY:
            listed = " + ".join(f"{name} {size:g}" for name, size in sizes.items() if size <= 1)
            raise InputError(f"the shares {listed} are {sum(shares):g} of the pool; lower one of them, such as split.shadow")

    def draw(self, images: Images, replicate: int, shadow: int) -> Parts:
        """The parts as they are drawn, without regard to copies; see `core.data.split`.

        Raises:
            InputError: the pool has fewer images than the sizes request, or none for a shadow model.
        """
        y = images.y.numpy()
        _check_shadow(self.shadow, shadow)
        members, val, test, others = self._shares(len(y))
        target, rest = stratified(np.arange(len(y)), y, members + val + test, fold(0, "target"))
        if members + val + test + others < 1 - _TINY and len(rest):
            rest, _ = stratified(rest, y, min(1.0, others * len(y) / len(rest)), fold(0, "unused"))
        if shadow:
            return Parts(*stratified(rest, y, 0.5, fold(0, "shadow", shadow)), rest[:0], rest[:0])
        own, non_members = stratified(target, y, members / (members + val + test), fold(0, "members"))
        first, second = stratified(non_members, y, val / (val + test), fold(0, "val"))
        if replicate:
            own, first = _redrawn(own, first, y, replicate)
        return Parts(own, first, second, rest)

    def _shares(self, pool: int) -> list[float]:
        """The sizes as shares of a pool; beside numbers of images, a share is that of a whole number, rounded down."""
        sizes = {name: getattr(self, name) for name in PARTS}
        shares = [size if size <= 1 else size / pool for size in sizes.values()]
        if sum(shares) > 1 + _TINY:
            listed = ", ".join(f"{name} {size:g}" for name, size in sizes.items())
            raise InputError(
                f"the parts ({listed}) need {math.ceil(sum(shares) * pool - _TINY):,} images, the pool has {pool:,}; "
                f"lower a setting of split, such as split.shadow"
            )
        if max(sizes.values()) > 1:
            return [max(1, math.floor(share * pool + _TINY)) / pool if share else 0.0 for share in shares]
        return shares


@knobs
class Paper:
    """The split of the CRL paper's code: shuffles of seed 0 that are not stratified, and halves of halves as by default."""

    def draw(self, images: Images, replicate: int, shadow: int) -> Parts:
        """The parts as they are drawn, without regard to copies; see `core.data.split`."""
        y = images.y.numpy()
        target, rest = _paper_halves(np.arange(len(y)), 0)
        if shadow:
            return Parts(*_paper_halves(rest, shadow - 1), rest[:0], rest[:0])
        own, non_members = _paper_halves(target, 0)
        first, second = stratified(non_members, y, 0.5, fold(0, "val"))
        if replicate:
            own, first = _redrawn(own, first, y, replicate)
        return Parts(own, first, second, rest)


@knobs
class Official:
    """The data set's own files: `test` is the test file, and the other parts are drawn from the training file.

    A size is a share of the training file, as far as it is in the pool, if it is at most 1, and otherwise a number of images. The
    members are what the other parts leave of it.
    """

    val: Annotated[float, Bounds(0)] = 0.1
    """Size of the part by which networks are compared and audited; with 0 there is none, and no audit."""
    shadow: Annotated[float, Bounds(0)] = 0.0
    """Size of the part of shadow models, each of which is trained on half of it."""

    def check(self) -> None:
        """Reject sizes that are not whole numbers of images, and shares that leave no members."""
        for name in ("val", "shadow"):
            _check_size(name, getattr(self, name), "training file")
        if sum(size for size in (self.val, self.shadow) if size <= 1) > 1 - _TINY:
            raise InputError(f"the shares val {self.val:g} + shadow {self.shadow:g} leave no image for members; lower one of them")

    def draw(self, images: Images, replicate: int, shadow: int) -> Parts:
        """The parts as they are drawn, without regard to copies; see `core.data.split`.

        Raises:
            InputError: the data set has no test file, or the training file has fewer images than the sizes request.
        """
        if images.in_test_file is None or not images.in_test_file.any() or images.in_test_file.all():
            raise InputError("split=official needs a data set with a training and a test file; use split=stratified")
        _check_shadow(self.shadow, shadow)
        y, in_test_file = images.y.numpy(), images.in_test_file.numpy()
        rows, test = np.flatnonzero(~in_test_file), np.flatnonzero(in_test_file)
        val, others = (size if size <= 1 else size / len(rows) for size in (self.val, self.shadow))
        if val + others > 1 - _TINY:
            raise InputError(
                f"the parts (val {self.val:g}, shadow {self.shadow:g}) leave no member of the {len(rows):,} images of the "
                "training file; lower split.val or split.shadow"
            )
        rest, target = stratified(rows, y, others, fold(0, "target"))
        if shadow:
            return Parts(*stratified(rest, y, 0.5, fold(0, "shadow", shadow)), rest[:0], rest[:0], test_is_exchangeable=False)
        first, own = stratified(target, y, val / (1 - others), fold(0, "members"))
        if replicate:
            own, first = _redrawn(own, first, y, replicate)
        return Parts(own, first, test, rest, test_is_exchangeable=False)


SplitProtocol = Stratified | Paper | Official
SPLITS = {"stratified": Stratified, "paper": Paper, "official": Official}


def _check_size(name: str, size: float, whole: str) -> None:
    """Check that a size is a share or a whole number of images.

    Raises:
        InputError: it is neither.
    """
    if size > 1 and size != int(size):
        raise InputError(f"{name}={size:g} is neither a share of the {whole}, at most 1, nor a whole number of images")


def _check_shadow(size: float, shadow: int) -> None:
    """Check that there are images for a shadow model.

    Raises:
        InputError: there are none.
    """
    if shadow and not size:
        raise InputError("split.shadow=0 leaves no images for shadow models; raise it, or train none")


def _redrawn(members: np.ndarray, val: np.ndarray, y: np.ndarray, replicate: int) -> tuple[np.ndarray, np.ndarray]:
    """Members and `val` of a replicate, drawn from those of the first draw."""
    candidates = np.concatenate([members, val])
    return stratified(candidates, y, len(members) / len(candidates), fold(0, "replicate", replicate))


def stratified(rows: np.ndarray, y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into two shuffled parts, stratified by class to within one image; `round(share * len(rows))` are in the first."""
    if not len(rows):
        return rows, rows
    stream = np.random.Generator(np.random.PCG64(seed))
    count = round(share * len(rows))
    shuffled = [stream.permutation(rows[y[rows] == c]) for c in np.unique(y[rows])]
    exact = np.array([share * len(r) for r in shuffled])
    take = np.floor(exact).astype(int)
    largest_remainder = np.argsort(-(exact - take) + 1e-9 * stream.random(len(take)))
    take[largest_remainder[: count - take.sum()]] += 1
    first = np.concatenate([r[:n] for r, n in zip(shuffled, take, strict=True)])
    second = np.concatenate([r[n:] for r, n in zip(shuffled, take, strict=True)])
    return stream.permutation(first), stream.permutation(second)


def _paper_halves(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The result of scikit-learn's train_test_split(rows, test_size=0.5, random_state=seed)."""
    order = np.random.RandomState(seed).permutation(len(rows))
    held_out = -(-len(rows) // 2)
    return rows[order[held_out:]], rows[order[:held_out]]
