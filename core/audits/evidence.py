"""Membership scores per image: what every statistic of an audit is computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.audits.roc import Roc
from core.stats import placements


@dataclass(frozen=True)
class MembershipScores:
    """Scores of audits of one network that audit the same images."""

    rows: np.ndarray
    """Rows of the pool that were audited, [n]."""
    member: np.ndarray
    """Whether each of these images is a member, bool [n]."""
    scores: Mapping[str, np.ndarray]
    """Scores by audit, larger for members, [n]."""

    @classmethod
    def of(cls, members: np.ndarray, others: np.ndarray, scores: Mapping[str, np.ndarray]) -> "MembershipScores":
        """Scores of the members, rows [M] of the pool, followed by those of the others, rows [N]; each score is [M + N]."""
        return cls(np.concatenate([members, others]), np.arange(len(members) + len(others)) < len(members), scores)

    def rocs(self) -> dict[str, Roc]:
        """The ROC of every audit."""
        return {name: Roc.of(score[self.member], score[~self.member], name) for name, score in self.scores.items()}

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays to store, named `<prefix>/rows`, `<prefix>/member` and `<prefix>/<audit>`."""
        arrays = {"rows": self.rows, "member": self.member, **self.scores}
        return {f"{prefix}/{name}": array for name, array in arrays.items()}


def stored_scores(arrays: Mapping[str, np.ndarray]) -> list[MembershipScores]:
    """The groups of scores among stored arrays; see `MembershipScores.arrays`."""
    prefixes = [name.removesuffix("/member") for name in arrays if name.endswith("/member")]
    return [
        MembershipScores(
            arrays[f"{prefix}/rows"], arrays[f"{prefix}/member"].astype(bool),
            {
                name.removeprefix(f"{prefix}/"): scores for name, scores in arrays.items()
                if name.startswith(f"{prefix}/") and name not in (f"{prefix}/rows", f"{prefix}/member")
            },
        )
        for prefix in prefixes
    ]  # fmt: skip


def permuted_members(groups: Sequence[MembershipScores], permutations: int, seed: int) -> list[np.ndarray]:
    """Permuted memberships for each group of scores, bool [permutations, n], with the group's number of members.

    Each permutation ranks all images at random, and the highest ranks of a group are its members: an image tends to have the same
    permuted membership in all groups and networks, as it has the same true one.
    """
    pool = np.unique(np.concatenate([group.rows for group in groups]))
    keys = np.random.Generator(np.random.PCG64(seed)).random((permutations, len(pool)), dtype=np.float32)
    permuted: dict[tuple[int, bytes], np.ndarray] = {}
    names = [(int(group.member.sum()), group.rows.tobytes()) for group in groups]
    for group, (members, rows) in zip(groups, names, strict=True):
        if (members, rows) not in permuted:  # several groups of a network may audit the same images
            own = keys[:, np.searchsorted(pool, group.rows)]
            threshold = np.partition(own, len(group.rows) - members, axis=1)[:, len(group.rows) - members]
            permuted[members, rows] = own >= threshold[:, None]
    return [permuted[name] for name in names]


def null_influence(scores: np.ndarray) -> np.ndarray:
    """Share of the images with smaller scores, ties counted half, minus one half, [n].

    An AUC is one half plus the mean of this over members minus the mean over non-members, for any choice of the members.
    """
    order, shares = np.argsort(scores, kind="stable"), np.empty(len(scores))
    shares[order] = placements(scores[order], scores[order]) - 0.5
    return shares
