"""A study's files under `--storage`: a local folder or any URI that pyarrow knows (s3://, gs://, hdfs://).

    plan.json                          what was asked for
    driver.json                        who may write here: the driver that came last
    trials/00007/params.json           a suggestion, written before anything else happens with it
    trials/00007/checkpoint.pt         while it trains
    trials/00007/{network.pt,predictions.npz,result.json}     when it ended; result.json is written last
    trials/00007/seeds/2/...           these files but params.json, where each configuration is trained with several seeds
    trials/00007/pictures.npz          reconstructions and heat maps, where the judge made any
    confirm/00007/1/...                the same for its first replicate, and answers.npz, what it says of every image
    confirm/00007/1/audit.{json,npz}   what its sister replicates and shadow models tell about it
    front.csv, report.html, ...        what people read
    versions/2/...                     what a later look at the stored networks found: trainables/results.py

Beside the studies' folders, for all of them:

    cache/<content>.json               where a training of that content is: trainables/trial.py
    shadows/<content>/...              shadow models: trainables/fleet.py

A file appears whole or not at all, so whatever can be read can be trusted after a crash. The result files are the one
record of what has been done; a study is resumed from them and from nothing else. A driver that was killed may have left
processes on other machines that write for some seconds more: what they write is refused once the next driver has come.
"""

import contextlib
import io
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from core.errors import InputError, redacted

PART = ".part"
"""How the name of a file ends while it is written."""


class Superseded(OSError):
    """Another driver has gone on with the study."""


@dataclass(frozen=True)
class Store:
    """A folder on any file system; small enough to be sent to every worker."""

    root: str
    claim: "Claim | None" = None
    """On behalf of which driver this is written; None asks for nothing."""

    @classmethod
    def at(cls, uri: str) -> "Store":
        """From what the user typed: a URI, or a path that is made absolute.

        Raises:
            InputError: a URI that pyarrow does not know.
        """
        if uri.startswith("file://"):
            uri = url2pathname(urlsplit(uri).path)
        store = cls(uri if "://" in uri else str(Path(uri).absolute()))
        try:
            _ = store._place
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"cannot use --storage {uri}: {error}") from None
        return store

    def below(self, name: str) -> "Store":
        """A folder in this one; what stands behind a ? in a URI stays there."""
        place, question, options = self.root.partition("?")
        return Store(f"{place}/{name}{question}{options}" if "://" in place else f"{self.root}/{name}", self.claim)

    def claimed(self) -> "Store":
        """This folder, to be written by whoever is given the result and by nobody who was given an earlier one."""
        claim = Claim(Store(self.root), uuid.uuid4().hex)
        claim.home.write_json(Claim.FILE, {"driver": claim.driver})
        return Store(self.root, claim)

    @property
    def above(self) -> "Store":
        """The folder that this one is in."""
        place, question, options = self.root.partition("?")
        return Store(f"{place.rpartition('/')[0]}{question}{options}" if "://" in place else str(Path(self.root).parent))

    def within(self, outer: "Store") -> str:
        """This folder's place below another one; empty if it is not below it."""
        mine, above = (store.root.partition("?")[0] for store in (self, outer))
        return mine.removeprefix(f"{above}/") if mine.startswith(f"{above}/") else ""

    @cached_property
    def _place(self):
        from pyarrow import fs

        return fs.FileSystem.from_uri(self.root) if "://" in self.root else (fs.LocalFileSystem(), self.root)

    def __getstate__(self):
        return {"root": self.root, "claim": self.claim}  # file systems are opened anew in each process

    @property
    def path(self) -> Path | None:
        """The folder, if it is on this machine."""
        return None if "://" in self.root else Path(self.root)

    def check_writable(self) -> None:
        """Write and remove a file, and leave nothing behind.

        Raises:
            InputError: that does not work.
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
            raise InputError(f"cannot write to --storage {self.root}: {str(error).splitlines()[0]}") from None
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # another study may have moved in
                    folder.rmdir()

    def write(self, name: str, data: bytes) -> None:
        """Make a file, replacing an older one in one step.

        Raises:
            Superseded: another driver has claimed the folder.
            OSError: the file system refused; nothing of the new file is left.
        """
        if self.claim:
            self.claim.check()
        system, base = self._place
        if self.path:
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PART}")  # processes on two machines may have one id
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # else a machine that loses power may keep the name without the content
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)  # on a full disk every byte counts
                raise
        else:  # object stores show a file only once it is whole
            with system.open_output_stream(f"{base}/{name}") as stream:
                stream.write(data)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Make files, one after the other."""
        for name, data in files.items():
            self.write(name, data)

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is no such file."""
        system, base = self._place
        try:
            with system.open_input_stream(f"{base}/{name}") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _delete(self, name: str) -> None:
        system, base = self._place
        system.delete_file(f"{base}/{name}")

    def discard(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            self._delete(name)
        except FileNotFoundError:
            pass

    def discard_folder(self, name: str) -> None:
        """Remove a folder and all that is in it, if it is there."""
        system, base = self._place
        with contextlib.suppress(FileNotFoundError):
            system.delete_dir(f"{base}/{name}")

    def discard_parts(self) -> None:
        """Remove what processes that were killed have left half-written, here and below."""
        for part in self.path.rglob(f"*{PART}") if self.path else ():
            part.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """What is directly in a folder, sorted; empty if there is no such folder."""
        from pyarrow import fs

        system, base = self._place
        found = system.get_file_info(fs.FileSelector(f"{base}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found)

    def write_json(self, name: str, content: Any) -> None:
        """Plain data; NaN and infinity are refused."""
        self.write(name, json.dumps(content, allow_nan=False, indent=1).encode())

    def read_json(self, name: str) -> Any:
        """Plain data, or None if there is no such file."""
        data = self.read(name)
        return None if data is None else json.loads(data)

    def write_state(self, name: str, state: dict) -> None:
        """A checkpoint."""
        import torch

        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.write(name, buffer.getvalue())

    def read_state(self, name: str) -> dict | None:
        """A checkpoint, read without executing anything in it; None if there is no such file."""
        import torch

        data = self.read(name)
        return None if data is None else torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


@dataclass(frozen=True)
class Claim:
    """A driver's right to write a study's files; it lasts until the next driver of the study comes."""

    home: Store
    driver: str
    FILE = "driver.json"

    def check(self) -> None:
        """Refuse if it has lapsed.

        Raises:
            Superseded: the next driver has come.
        """
        newest = self.home.read_json(self.FILE)
        if newest is not None and newest["driver"] != self.driver:
            raise Superseded(f"another driver has gone on with the study in {redacted(self.home.root)}; this one stops")
