"""Resources of a job: its share of the cluster, its images, and the folders for its results."""

import warnings
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from core.data import Images
from trainables.storage.cache import Cache
from trainables.storage.content import Content
from trainables.storage.store import Store


class SharedImages(NamedTuple):
    """A pool of images as arrays that Ray shares between the processes of a machine."""

    arrays: dict[str, Any]
    """The arrays of `Images.arrays`."""
    content: Content
    """Fingerprints of pixels and labels, and of the code of the driver."""


def to_shared(images: Images) -> SharedImages:
    """Convert images to arrays that can be shared."""
    return SharedImages(images.arrays(), Content.of(images))


def from_shared(shared: SharedImages) -> Images:
    """Convert shared arrays to images that use the same memory, which must not be written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return Images.of_arrays(shared.arrays)


@dataclass(frozen=True)
class Share:
    """The resources of one job."""

    workers: int
    """Number of Ray Train workers; 0 runs the job in the calling process."""
    cpus: float
    """CPU cores per worker."""
    gpus: float
    """GPUs per worker."""

    def device(self) -> torch.device:
        """The device of a worker."""
        return torch.device("cuda" if self.gpus and torch.cuda.is_available() else "cpu")

    def limit_threads(self) -> None:
        """Limit the threads of this process to the worker's CPU cores."""
        torch.set_num_threads(max(1, int(self.cpus)))


@dataclass(frozen=True)
class Workspace:
    """Everything that a process needs for a job, except the images."""

    share: Share
    store: Store
    """Folder that the jobs' folders are in; the study's, or `root` for shadow models."""
    root: Store
    """Folder above all studies, with shadow models and the cache of trainings."""
    ticket: str = ""
    """Identifies the job when it reports its start; see `trainables.execution.waiting`."""

    def cache(self, images: SharedImages) -> Cache:
        """The cache of trainings and evaluations on these images."""
        return Cache(self.root, images.content)

    def for_shadows(self, share: Share) -> "Workspace":
        """The workspace of shadow models, which lie next to the studies."""
        return replace(self, share=share, store=self.root)
