"""Running whole studies: in this process on a shared Ray, or in a process of their own that a test can kill."""

import contextlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.terminal import signals

ROOT = Path(__file__).resolve().parents[2]
CRL = "studies/crl_tradeoff.py"
SERIAL = ("--concurrency", "1")
"""One worker process; starting another one costs more than most of the tests' studies."""
QUICK = (*SERIAL, "--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials")
"""Options, before the number of trials, with which a trial takes about a second."""
FIRST_FIVE = (*QUICK, "5")
"""Options of a study whose trials are the first five of the fixture `crl_study`; in its directory they are reused."""


@dataclass(frozen=True)
class Finished:
    """A study that has ended: the directory in which it was run, its folder, and what it printed."""

    cwd: Path
    folder: Path
    out: str
    err: str

    @property
    def name(self) -> str:
        """Name of the study's run."""
        return self.folder.name

    @property
    def tracking_uri(self) -> str:
        """Where its runs are logged."""
        return f"sqlite:///{self.cwd}/mlflow.db"


def command(script: str | Path, *argv: str) -> list[str]:
    """The words of a command, typed in any directory."""
    return [sys.executable, str(ROOT / script), *argv]


def folder_of(out: str, cwd: Path) -> Path:
    """The folder of the study that printed this."""
    match = re.search(r"results in (\S+)", out)
    assert match, out
    return cwd / match[1]


def crl_script(folder: Path, changes: str) -> Path:
    """Write a script of the CRL study with changes, in the syntax of keyword arguments."""
    path = folder / "study.py"
    path.write_text(
        "from dataclasses import replace\nfrom studies.crl_tradeoff import STUDY\nfrom trainables.commands.study import main\n"
        f"if __name__ == '__main__':\n    main(replace(STUDY, {changes}))\n"
    )
    return path


def crl_with_replicates(folder: Path, count: int) -> Path:
    """Write a script of the CRL study that confirms each front point with this number of replicates."""
    return crl_script(folder, f"presets={{'dev': replace(STUDY.presets['dev'], replicates={count})}}")


@contextlib.contextmanager
def captured() -> Iterator[tuple[Path, Path]]:
    """Send standard output and error to two files, including what libraries write to the file descriptors themselves."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = Path(folder, "out"), Path(folder, "err")
        for number, (name, path) in enumerate(zip(("stdout", "stderr"), paths, strict=True), 1):
            saved, stream, file = os.dup(number), getattr(sys, name), path.open("w", buffering=1)
            os.dup2(file.fileno(), number)
            setattr(sys, name, file)
            for undo, *arguments in (
                (os.close, saved), (os.dup2, saved, number), (setattr, sys, name, stream), (file.close,),
            ):  # fmt: skip
                stack.callback(undo, *arguments)
        yield paths


class InProcess:
    """Runs commands in this process on the Ray that is running.

    A process of its own would spend 8 s of CPU on imports and on Ray before it starts.
    """

    def __init__(self, template: Path):
        self.template = template
        """An empty MLflow database; creating one takes more than a second."""

    def __call__(self, cwd: Path, *argv: str, script: str | Path = CRL) -> subprocess.CompletedProcess[str]:
        """Run a command in a directory; returns its exit code and what it printed."""
        database = cwd / "mlflow.db"
        if not database.exists() and "--tracking-uri" not in argv:
            shutil.copyfile(self.template, database)
        words, argv_before = [str(ROOT / script), *argv], sys.argv
        handlers = {number: signal.getsignal(number) for number in signals.TERMINATIONS}
        with captured() as (out, err):
            try:
                sys.argv = words
                with contextlib.chdir(cwd):
                    runpy.run_path(words[0], run_name="__main__")
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                sys.argv = argv_before
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                sys.stdout.flush()
                sys.stderr.flush()
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())

    def succeed(self, cwd: Path, *argv: str, script: str | Path = CRL) -> str:
        """Run a command that must succeed; returns its standard output."""
        done = self(cwd, *argv, script=script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def study(self, cwd: Path, *argv: str, script: str | Path = CRL) -> Finished:
        """Run a study that must succeed."""
        done = self(cwd, *argv, script=script)
        assert done.returncode == 0, done.stdout + done.stderr
        return Finished(cwd, folder_of(done.stdout + done.stderr, cwd), done.stdout, done.stderr)


def start(
    cwd: Path, *argv: str, script: str | Path = CRL, env: Mapping[str, str] | None = None, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[str]:
    """Start a command in a process of its own; SIGINT reaches it as Ctrl-C does on a terminal."""
    return subprocess.Popen(
        command(script, *argv), cwd=cwd, env=None if env is None else dict(env), text=True, stdout=subprocess.PIPE, stderr=stderr,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background process of a shell ignores it
    )  # fmt: skip


def run_process(cwd: Path, *argv: str, script: str | Path = CRL) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own until it ends."""
    return subprocess.run(command(script, *argv), cwd=cwd, capture_output=True, text=True, timeout=500)


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen, seconds: float = 300, log: Path | None = None
) -> None:  # fmt: skip
    """Wait for a condition while a command runs; fails with its output if it ends earlier.

    Args:
        condition: evaluated again and again until it is true.
        process: the command.
        seconds: time after which the condition counts as never true.
        log: file of the command's output, if that is not a pipe.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text() if log else process.communicate()[0]
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def kill(process: subprocess.Popen[str]) -> None:
    """End a command with SIGKILL."""
    process.kill()
    process.communicate()
