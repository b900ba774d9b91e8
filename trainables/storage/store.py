"""A study's files below `--storage`, which is a local folder or any URI that pyarrow knows (s3://, gs://, hdfs://).

    plan.json                          the plan
    facts.json                         command, versions and hardware of the first driver
    driver.json                        the lease: identifies the latest driver, the only one that may write
    trials/00007/params.json           a suggestion, stored before anything else happens with it
    trials/00007/checkpoint.pt         during training
    trials/00007/{network.pt,training.json}                   after training
    trials/00007/{predictions.npz,result.json}                after the evaluation; result.json is written last
    trials/00007/seeds/2/...           the same files except params.json, if each configuration is trained with several seeds
    trials/00007/pictures.npz          reconstructions and attribution maps, if any
    confirm/00007/1/...                the same for the first replicate of trial 7, and outputs.npz, its outputs for every image
    confirm/00007/1/audit.{json,npz}   audit of the replicate by its sibling replicates and shadow models
    front.csv, report.html, ...        files for readers
    versions/2/...                     re-evaluation of the stored networks; see `trainables.storage.versions`

Next to the studies' folders, shared by all of them:

    cache/results/<key>.json ...       folder of the training and evaluation with that key; see `trainables.storage.cache`
    shadows/<key>/...                  shadow models; see `trainables.execution.shadows`

Files are written atomically, so every file that can be read is complete, even after a crash. The result files are the only record
of what has been done: a study is resumed from them alone. Processes of a killed driver may keep writing from other machines for
some seconds; their writes raise `Superseded` once the next driver has the lease.

The content of a file is not trusted: a name that it contains cannot leave the folder, nothing in it is executed, and a file that is
truncated or has another content than it should is reported as `Damaged`, with its path.
"""

import contextlib
import io
import json
import os
import socket
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from core.errors import InputError, first_line
from core.redaction import has_secret, redacted
from trainables.storage.contents import Damaged, Record, arrays_of, record_of, state_of
from trainables.study.records import is_name

PART = ".part"
"""Suffix of a file while it is being written."""
MIN_ARCHIVE_BYTES = 98
"""Size of a ZIP archive, which .pt and .npz files are, of one empty file without a name."""


class Superseded(OSError):
    """Another driver has resumed the study, so this one may no longer write."""


@dataclass(frozen=True)
class Store:
    """A folder on a local or remote file system; a small object that is sent to every worker."""

    root: str
    """Absolute path or URI of the folder."""
    lease: "Lease | None" = None
    """Lease that every write checks first; None writes without a check."""

    @classmethod
    def at(cls, uri: str) -> "Store":
        """Open the folder that a user named by a URI or a path.

        Raises:
            InputError: pyarrow does not know the URI, or it contains credentials, which Ray would write to files with the URI.
        """
        if "://" in uri and has_secret(uri):
            raise InputError(
                f"--storage {uri}: put the keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or your storage's variables, "
                "or into ~/.aws/credentials, on every machine; every user of this machine can read a command line"
            )
        if uri.startswith("file://"):
            uri = url2pathname(urlsplit(uri).path)
        store = cls(uri if "://" in uri else str(Path(uri).absolute()))
        try:
            _ = store._place
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"cannot use --storage {uri}: {error}") from None
        return store

    def below(self, name: str) -> "Store":
        """A subfolder of this one, with the same lease; the query string of a URI stays at its end.

        Raises:
            InputError: the name does not stand for a folder below this one.
        """
        self._check_name(name)
        place, question, options = self.root.partition("?")
        if "://" not in place:
            return Store(f"{self.root}/{name}", self.lease)
        if set("%?#") & set(name):  # they have a meaning in URIs; %2e%2e would be ..
            raise InputError(f"{name!r} in {redacted(self.root)}: a folder below a URI has none of % ? # in its name")
        return Store(f"{place}/{name}{question}{options}", self.lease)

    def _check_name(self, name: str) -> None:
        """Check a name, which may come from a file.

        Raises:
            InputError: it does not stand for something below this folder.
        """
        if not is_name(name):
            raise InputError(f"{name!r} is not the name of a file or folder below {redacted(self.root)}")

    def _full(self, name: str) -> str:
        """The path of a file or folder in the file system."""
        self._check_name(name)
        return f"{self._place[1]}/{name}"

    def contains(self, name: str) -> bool:
        """Whether a path, which may come from a file, is below this folder, also after symbolic links are followed."""
        if not is_name(name):
            return False
        return not self.path or (self.path / name).resolve().is_relative_to(self.path.resolve())

    def with_new_lease(self) -> "Store":
        """A handle with a new write lease; writes through earlier handles raise `Superseded`."""
        lease = Lease(Store(self.root), uuid.uuid4().hex)
        lease.home.write_json(Lease.FILE, {"driver": lease.driver, "process": f"process {os.getpid()} on {socket.gethostname()}"})
        return Store(self.root, lease)

    @property
    def above(self) -> "Store":
        """The parent folder, without a lease."""
        place, question, options = self.root.partition("?")
        return Store(f"{place.rpartition('/')[0]}{question}{options}" if "://" in place else str(Path(self.root).parent))

    def within(self, outer: "Store") -> str:
        """Path of this folder relative to one that contains it; empty if `outer` does not contain it."""
        mine, above = (store.root.partition("?")[0] for store in (self, outer))
        return mine.removeprefix(f"{above}/") if mine.startswith(f"{above}/") else ""

    @cached_property
    def _place(self):
        from pyarrow import fs

        return fs.FileSystem.from_uri(self.root) if "://" in self.root else (fs.LocalFileSystem(), self.root)

    def __getstate__(self):
        return {"root": self.root, "lease": self.lease}  # each process opens its own file system

    @property
    def path(self) -> Path | None:
        """The local path of the folder; None if it is not on this machine."""
        return None if "://" in self.root else Path(self.root)

    def check_writable(self) -> None:
        """Check that files can be written, by writing and removing one; nothing is left behind.

        Raises:
            InputError: the file could not be written.
        """
        made = []
        try:
            if self.path:
                folder = self.path
                while not folder.exists():
                    made.append(folder)
                    folder = folder.parent
            probe = f".probe-{uuid.uuid4().hex}"
            self.write(probe, b"")
            self._delete(probe)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"cannot write to --storage {self.root}: {first_line(error)}") from None
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # another study may have started there
                    folder.rmdir()

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, replacing an older one.

        Raises:
            Superseded: another driver has the lease.
            OSError: the file system raised an error; no part of the new file is left.
        """
        full = self._full(name)
        if self.lease:
            self.lease.check()
        if self.path:
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PART}")  # process IDs may coincide on two machines
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # otherwise a power failure may keep the name without the content
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)  # frees the space on a full disk
                raise
        else:  # object stores show a file only when it is complete
            with self._place[0].open_output_stream(full) as stream:
                stream.write(data)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several files, one after the other."""
        for name, data in files.items():
            self.write(name, data)

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if there is no such file."""
        full = self._full(name)
        try:
            with self._place[0].open_input_stream(full) as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _delete(self, name: str) -> None:
        self._place[0].delete_file(self._full(name))

    def discard(self, name: str) -> None:
        """Remove a file if it exists."""
        try:
            self._delete(name)
        except FileNotFoundError:
            pass

    def discard_folder(self, name: str) -> None:
        """Remove a folder with its contents if it exists; symbolic links are removed and not followed."""
        with contextlib.suppress(FileNotFoundError):
            self._place[0].delete_dir(self._full(name))

    def discard_parts(self) -> None:
        """Remove partially written files of killed processes, in this folder and below."""
        for part in self.path.rglob(f"*{PART}") if self.path else ():
            part.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders directly in a folder, sorted; empty if there is no such folder.

        Names that this program never writes, such as one with a line break, are left out.
        """
        from pyarrow import fs

        full = self._full(folder) if folder else self._place[1]
        if self.path:  # pyarrow cannot list a folder with a name that is not UTF-8
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return sorted(filter(is_name, os.listdir(full)))
            return []
        entries = self._place[0].get_file_info(fs.FileSelector(full, allow_not_found=True))
        return sorted(name for name in (info.base_name for info in entries) if is_name(name))

    def place_of(self, name: str) -> str:
        """The path or URI of a file, for messages."""
        return f"{redacted(self.root.partition('?')[0])}/{name}"

    def is_truncated(self, name: str) -> bool:
        """Whether a .pt or .npz file exists and is empty or truncated; only its end is read."""
        full = self._full(name)
        try:
            with self._place[0].open_input_file(full) as file:
                return file.size() < MIN_ARCHIVE_BYTES or not zipfile.is_zipfile(file)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def write_json(self, name: str, content: Any) -> None:
        """Write plain data as JSON.

        Raises:
            ValueError: a number is NaN or infinite.
        """
        self.write(name, json.dumps(content, allow_nan=False, indent=1).encode())

    def read_json(self, name: str) -> Any:
        """Plain data from a JSON file, or None if there is no such file.

        Raises:
            Damaged: the file is not JSON.
        """
        return self.read_record(name, lambda plain: plain)

    def read_record(self, name: str, parse: Callable[[Any], Record], fix: str = "") -> Record | None:
        """A record from a JSON file, or None if there is no such file; see `trainables.storage.contents.record_of`.

        Raises:
            Damaged: the file is not JSON, or `parse` does not accept its content.
        """
        data = self.read(name)
        return None if data is None else record_of(data, self.place_of(name), parse, fix)

    def read_arrays(self, name: str, fix: str = "") -> dict[str, np.ndarray] | None:
        """Arrays from a .npz file, or None if there is no such file.

        Raises:
            Damaged: the file has other content.
        """
        data = self.read(name)
        return None if data is None else arrays_of(data, self.place_of(name), fix)

    def write_state(self, name: str, state: dict) -> None:
        """Write a checkpoint."""
        import torch

        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.write(name, buffer.getvalue())

    def read_state(self, name: str, fix: str = "") -> dict | None:
        """Read a checkpoint without executing code in it; None if there is no such file.

        Raises:
            Damaged: the file has other content.
        """
        data = self.read(name)
        return None if data is None else state_of(data, self.place_of(name), fix)


@dataclass(frozen=True)
class Lease:
    """A driver's right to write a study's files, valid until the next driver of the study takes it."""

    home: Store
    """The study's folder, without a lease."""
    driver: str
    """Random identifier of the driver."""
    FILE = "driver.json"

    def check(self) -> None:
        """Check that no other driver has the lease.

        Raises:
            Superseded: another driver has resumed the study.
            OSError: the lease cannot be read.
        """
        try:
            newest = self.home.read_record(self.FILE, lambda plain: (plain["driver"], plain.get("process", "")))
        except Damaged as error:
            raise OSError(str(error)) from None
        if newest is not None and newest[0] != self.driver:
            who = f" ({newest[1]})" if newest[1] else ""
            raise Superseded(f"another driver has resumed the study in {redacted(self.home.root)}{who}")
