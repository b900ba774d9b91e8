"""The cache of trainings: where the training of a configuration on certain images with certain code is stored."""

import re
from dataclasses import dataclass, replace

from trainables.storage.content import content_key
from trainables.storage.contents import Damaged
from trainables.storage.jobs import Job
from trainables.storage.results import TRAINING_FILES, intact_result
from trainables.storage.store import Store
from trainables.study.records import checked
from trainables.study.results import TrainingResult
from trainables.study.trial_state import TrialState

OPTIONAL = ("outputs.npz", "pictures.npz")
"""Files that a training leaves behind if the judge settings ask for them."""
TRAINING = r"shadows/\w+|[^/]+/(trials/\d+(/seeds/\d+)?|confirm/\d+/\d+)"
"""Folders of trainings, relative to the folder above all studies; see `trainables.storage.jobs`."""


@dataclass(frozen=True)
class TrainingCache:
    """The trainings below a folder; `cache/<key>.json` names the folder of the training with that content key."""

    root: Store
    """Folder above all studies."""
    content: str
    """Fingerprint of images and code; see `trainables.execution.resources.to_shared`."""

    def fetch(self, job: Job, store: Store) -> TrainingResult | None:
        """Copy the files of an earlier training with the same content into the job's folder.

        The entry is not trusted: it may only name the folder of a training below the folder of all studies, and the result there
        must state the same key.

        Returns:
            Its result, or None if there is no such training, or some of its files are missing or damaged.
        """
        folder = self._folder(job)
        result = folder and intact_result(self.root, folder)
        if not folder or not result or result.state is not TrialState.COMPLETED or result.key != self.key(job):
            return None
        files = {name: self.root.read(f"{folder}/{name}") for name in (*TRAINING_FILES, *OPTIONAL)}
        if any(files[name] is None for name in TRAINING_FILES):
            return None
        target = store.below(job.folder)
        target.write_all({name: data for name, data in files.items() if data is not None})
        result = replace(result, reused_from=folder)
        target.write_json("result.json", result.to_json())
        target.discard("checkpoint.pt")
        return result

    def _folder(self, job: Job) -> str | None:
        """The folder that the entry of a job names; None if there is no entry, or it names anything but a training below `root`."""
        try:
            folder = self.root.read_record(self._entry(job), lambda plain: checked({"folder": str}, plain)["folder"])
        except Damaged:
            return None
        known = folder is not None and re.fullmatch(TRAINING, folder) and all(
            self.root.contains(f"{folder}/{name}") for name in ("result.json", *TRAINING_FILES, *OPTIONAL)
        )  # fmt: skip
        return folder if known else None

    def record(self, job: Job, store: Store) -> None:
        """Record that the job's training is in its folder of `store`."""
        if folder := store.within(self.root):
            self.root.write_json(self._entry(job), {"folder": f"{folder}/{job.folder}"})

    def key(self, job: Job) -> str:
        """The job's key."""
        return content_key(job.params, self.content)

    def _entry(self, job: Job) -> str:
        return f"cache/{self.key(job)}.json"
