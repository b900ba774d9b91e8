"""Repairing a study before it is resumed: a damaged file of a training is removed with its result, so that it is run again."""

from collections.abc import Iterator

from trainables.storage.contents import Damaged
from trainables.storage.jobs import trial_folder
from trainables.storage.results import audit_result, damage, stored_facts, trial_numbers
from trainables.storage.store import Store


def discard_damaged(store: Store) -> list[str]:
    """Remove the damaged files of a study that can be made again; returns one line for each."""
    return [*_facts(store), *_trials(store), *_replicates(store)]


def _facts(store: Store) -> Iterator[str]:
    try:
        stored_facts(store)
    except Damaged as error:
        store.discard("facts.json")
        yield f"{error.what}; it is written again"


def _trials(store: Store) -> Iterator[str]:
    for number in trial_numbers(store):
        folder = trial_folder(number)
        own = [*(f"{folder}/seeds/{seed}" for seed in store.names(f"{folder}/seeds")), folder]
        for place in own:
            if found := damage(store, place):
                store.discard(f"{place}/result.json")
                store.discard(f"{folder}/result.json")
                yield f"{found}; trial {number} is run again"
            yield from _checkpoint(store, place, f"trial {number}")


def _replicates(store: Store) -> Iterator[str]:
    for point in store.names("confirm"):
        for replicate in store.names(f"confirm/{point}"):
            place, name = f"confirm/{point}/{replicate}", f"replicate {replicate} of trial {point.lstrip('0') or 0}"
            if found := damage(store, place):
                store.discard(f"{place}/result.json")
                yield f"{found}; {name} is run again"
            yield from _checkpoint(store, place, name)
            try:
                audit_result(store, f"{place}/audit.json")
            except Damaged as error:
                store.discard(f"{place}/audit.json")
                yield f"{error.what}; {name} is audited again"


def _checkpoint(store: Store, place: str, name: str) -> Iterator[str]:
    """Remove a truncated checkpoint."""
    if store.is_truncated(f"{place}/checkpoint.pt"):
        store.discard(f"{place}/checkpoint.pt")
        yield f"{store.place_of(f'{place}/checkpoint.pt')} is damaged (truncated); {name} starts from the beginning"
