"""The cache of trainings: where the training of a configuration on certain images with certain code is stored."""

from dataclasses import dataclass, replace

from trainables.storage.content import content_key
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

ALWAYS = ("network.pt", "predictions.npz")
"""Files that every training leaves behind, besides its result."""
OPTIONAL = ("outputs.npz", "pictures.npz")
"""Files that it leaves behind if the judge settings ask for them."""


@dataclass(frozen=True)
class TrainingCache:
    """The trainings below a folder; `cache/<key>.json` names the folder of the training with that content key."""

    root: Store
    """Folder above all studies."""
    content: str
    """Fingerprint of images and code; see `trainables.execution.resources.to_shared`."""

    def fetch(self, job: Job, store: Store) -> TrainingResult | None:
        """Copy the files of an earlier training with the same content into the job's folder.

        Returns:
            Its result, or None if there is no such training or some of its files are missing.
        """
        entry = self.root.read_json(self._entry(job))
        folder = entry and entry["folder"]
        stored = folder and self.root.read_json(f"{folder}/result.json")
        result = stored and TrainingResult.of_json(stored)
        if not result or result.error:
            return None
        files = {name: self.root.read(f"{folder}/{name}") for name in (*ALWAYS, *OPTIONAL)}
        if any(files[name] is None for name in ALWAYS):
            return None
        target = store.below(job.folder)
        target.write_all({name: data for name, data in files.items() if data is not None})
        result = replace(result, reused_from=folder)
        target.write_json("result.json", result.to_json())
        target.discard("checkpoint.pt")
        return result

    def record(self, job: Job, store: Store) -> None:
        """Record that the job's training is in its folder of `store`."""
        if folder := store.within(self.root):
            self.root.write_json(self._entry(job), {"folder": f"{folder}/{job.folder}"})

    def _entry(self, job: Job) -> str:
        return f"cache/{content_key(job.params, self.content)}.json"
