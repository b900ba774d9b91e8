"""The cache: where the network, the outputs and the results of a configuration on certain images with certain code are stored.

    cache/results/<key>.json     folder of the training and evaluation of a whole configuration
    cache/networks/<key>.json    folder of the trained network, whatever it was evaluated with
    cache/outputs/<key>.json     folder of its outputs for the pool, under one threat model

The keys are those of `trainables.storage.content.Content`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainables.storage.content import Content
from trainables.storage.contents import Damaged
from trainables.storage.jobs import Job
from trainables.storage.results import TRAINING_FILES, intact_result, stored_training
from trainables.storage.store import Store
from trainables.study.records import checked
from trainables.study.results import TrainingResult
from trainables.study.trial_state import TrialState

RESULTS, NETWORKS, OUTPUTS = "results", "networks", "outputs"
"""Kinds of entries."""
OPTIONAL = ("training.json", "outputs.npz", "pictures.npz")
"""Files that a training leaves behind, some of them only if the judge settings ask for them."""
TRAINING = r"(shadows|papers)/\w+|[^/]+/(trials/\d+(/seeds/\d+)?|confirm/\d+/\d+)"
"""Folders of trainings, relative to the folder above all studies; see `trainables.storage.jobs`."""


@dataclass(frozen=True)
class Cache:
    """The trainings and evaluations below a folder.

    An entry is not trusted: it may only name the folder of a training below `root`, and the files there must state the same key.
    """

    root: Store
    """Folder above all studies."""
    content: Content
    """Fingerprints of images and code."""

    def fetch_result(self, job: Job, store: Store) -> TrainingResult | None:
        """Copy the files of an earlier training and evaluation with the same content into the job's folder.

        Returns:
            Its result, or None if there is none, or some of its files are missing or damaged.
        """
        key = self.content.evaluation_key(job.params)
        folder = self._folder(RESULTS, key)
        result = folder and intact_result(self.root, folder)
        if not folder or not result or result.state is not TrialState.COMPLETED or result.key != key:
            return None
        target = store.below(job.folder)
        if not self._copy(folder, target, TRAINING_FILES, OPTIONAL):
            return None
        result = replace(result, reused_from=folder)
        target.write_json("result.json", result.to_json())
        target.discard("checkpoint.pt")
        return result

    def fetch_network(self, job: Job, store: Store) -> None:
        """Copy a network that was trained with the same content, and evaluated with any settings, into the job's folder.

        Nothing happens if there is none, or if a file of it is missing or damaged. Its outputs for the pool are copied too if
        there are some under the job's threat model.
        """
        key, target = self.content.training_key(job.params), store.below(job.folder)
        folder = self._folder(NETWORKS, key)
        training = folder and stored_training(self.root.below(folder), key)
        if not folder or not training or stored_training(target, key) or not self._copy(folder, target, ("network.pt",)):
            return
        outputs_key = self.content.outputs_key(job.params)
        source = self._folder(OUTPUTS, outputs_key)
        result = source and intact_result(self.root, source)
        has_outputs = source and result and result.outputs_key == outputs_key and self._copy(source, target, ("outputs.npz",))
        training = training.reused(folder, outputs_key if has_outputs else "")
        target.write_json("training.json", training.to_json())
        target.discard("checkpoint.pt")

    def _copy(self, folder: str, target: Store, names: Sequence[str], optional: Sequence[str] = ()) -> bool:
        """Copy files of a folder below `root`; False if one that is not optional is missing or truncated, and nothing is copied."""
        files = {name: self.root.read(f"{folder}/{name}") for name in (*names, *optional)}
        if any(files[name] is None or self.root.is_truncated(f"{folder}/{name}") for name in names):
            return False
        target.write_all({name: data for name, data in files.items() if data is not None})
        return True

    def _folder(self, kind: str, key: str) -> str | None:
        """The folder that an entry names; None if there is no entry, or it names anything but a training below `root`."""
        try:
            folder = self.root.read_record(f"cache/{kind}/{key}.json", lambda plain: checked({"folder": str}, plain)["folder"])
        except Damaged:
            return None
        known = folder is not None and re.fullmatch(TRAINING, folder) and all(
            self.root.contains(f"{folder}/{name}") for name in ("result.json", *TRAINING_FILES, *OPTIONAL)
        )  # fmt: skip
        return folder if known else None

    def record(self, job: Job, store: Store, result: TrainingResult) -> None:
        """Record that the job's network, and its result if the evaluation succeeded, are in its folder of `store`."""
        key, folder = self.content.training_key(job.params), store.within(self.root)
        if not folder and store.root != self.root.root:
            return
        entries = {NETWORKS: key} if stored_training(store.below(job.folder), key) else {}
        if not result.error:
            entries |= {RESULTS: result.key} | ({OUTPUTS: result.outputs_key} if result.outputs_key else {})
        for kind, name in entries.items():
            self.root.write_json(f"cache/{kind}/{name}.json", {"folder": f"{folder}/{job.folder}" if folder else job.folder})
