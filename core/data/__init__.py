"""Data sets as two tensors, and their split into members and non-members.

    images = load("cifar10", data_dir="data")       # uint8 [N, C, H, W], int64 [N]
    parts = split(images, config.split)              # row numbers: members, val, test, shadow

A data set that can be loaded is a `Source`, one file per kind: its labels are read first, and pixels only of the rows that the
pool needs. Everything after that (labels, pool, exact copies, parts) is the same for every source.
"""

from core.data.images import Images, channel_statistics, fingerprints
from core.data.parquet import PARQUET
from core.data.protocols import SPLITS, Parts
from core.data.sources import DATASETS, default_epsilon, load
from core.data.splits import hold_out, overlap, split
from core.data.summary import description, summary

__all__ = [
    "DATASETS", "PARQUET", "SPLITS", "Images", "Parts", "channel_statistics", "default_epsilon", "description", "fingerprints",
    "hold_out", "load", "overlap", "split", "summary",
]  # fmt: skip
