"""Tests of docs/tutorial.md: run from top to bottom in one directory, every block succeeds and prints what the page quotes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/tutorial.md"
BLOCK = re.compile(r"(?:<!-- Ctrl-C at: ([^\n]+) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)


class Step(NamedTuple):
    """A block of code, what the page quotes of its output, and the text at which Ctrl-C is pressed (empty: never)."""

    language: str
    code: str
    quoted: str
    stop: str


def steps() -> list[Step]:
    found: list[Step] = []
    for stop, language, text in BLOCK.findall(PAGE.read_text()):
        if language == "text":
            found[-1] = found[-1]._replace(quoted=text)
        else:
            found.append(Step(language, text, "", stop))
    return found


def words(line: str) -> list[str]:
    """The words of a line without table frames, with numbers, names of studies and paths masked."""
    line = re.sub(r"\S+-\d{8}-\d{6}-[0-9a-f]{4}", "NAME", line)
    line = re.sub(r"\S*/python[\d.]*(?= )", "PYTHON", re.sub(r"\S*/NAME", "NAME", line))
    line = re.sub(r"\b[0-9a-f]{32}\b|[-+]?\b\d[\d.,]*(e-\d+)?\b", "#", line)
    line = re.sub(r"#(, #)+", "#", line)
    return [word for word in re.sub(r"[┃│━─┏┓┗┛┡┩├┤└┘╇┳┻┬┴┼]", " ", line).split() if word != "..."]


def missing(quoted: str, out: str) -> list[str]:
    """Quoted lines whose words do not occur, in order, in one line of the output."""

    def contains(line: list[str], wanted: list[str]) -> bool:
        rest = iter(line)
        return all(word in rest for word in wanted)

    output = [words(line) for line in out.splitlines()]
    return [line for line in quoted.splitlines() if not any(contains(printed, words(line)) for printed in output)]


def run(step: Step, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Run a block as a reader would; returns its exit code and output. Shell variables are kept for the next block."""
    command = (
        ["bash", "-ec", f"set -a; trap 'env -0 > .variables' EXIT\n{step.code}"]
        if step.language == "sh"
        else [sys.executable, "-c", step.code]
    )
    process = subprocess.Popen(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background process of a shell ignores it
    )  # fmt: skip
    assert process.stdout
    out, stop = "", step.stop
    for line in process.stdout:
        out += line
        if stop and stop in line:
            os.killpg(process.pid, signal.SIGINT)
            stop = ""
    code = process.wait()
    assert not stop, f"{stop!r} was not printed, so Ctrl-C was not pressed:\n{out}"
    if step.language == "sh" and not step.stop:
        pairs = (entry.partition("=") for entry in (folder / ".variables").read_text().split("\0") if entry)
        variables |= {name: value for name, _, value in pairs if re.fullmatch(r"[A-Z]+", name)}
    return code, out


def test_a_quoted_line_matches_if_its_words_are_printed_in_order():
    assert not missing(
        "report: .../runs/s-20260101-000000-abcd/report.html\n...", "report: /a/b/runs/s-20270101-000000-dcba/report.html"
    )
    assert not missing(
        "trial  accuracy  ...  confirmed\n 5 !  0.9", "┃ trial ┃ accuracy ┃ mia_auc ┃ confirmed ┃\n│ 12 ! │ 0.123 │ 1 │"
    )
    assert missing("trial 3 failed", "trial 3 ended\n3 trials failed") == ["trial 3 failed"]
    assert not missing("flag x (trials 2, 5): ...", "flag x (trials 7): it means this")
    assert missing("warning: front_version differs", "warning: suite differs")


def test_every_block_is_code_or_the_quoted_output_of_code():
    assert PAGE.read_text().count("```") == 2 * (len(steps()) + sum(bool(step.quoted) for step in steps()))
    assert {step.language for step in steps()} == {"sh", "python"}
    assert not [step.code for step in steps() if not step.quoted and not step.stop and not re.fullmatch(r"\w+=.*\n", step.code)]


@pytest.mark.tutorial
@pytest.mark.timeout(900)
def test_the_tutorial_runs_from_top_to_bottom_and_prints_what_it_quotes(tmp_path):
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_ / "python").chmod(0o755)
    # With several threads, a small network is slower on a busy machine.
    variables = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for step in steps():
        code, out = run(step, tmp_path, variables)
        assert step.stop or code == 0, f"{step.code}\nexited with {code}:\n{out}"
        assert not (lost := missing(step.quoted, out)), f"{step.code}\nprinted nothing like {lost}:\n{out}"
    assert "crl_tradeoff" in experiments(tmp_path)


def experiments(folder: Path) -> str:
    """The experiments that `mlflow ui` lists."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db", "--port", port, "--workers", "1"]
    with (folder / "ui.log").open("w") as log:
        ui = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + 90
    try:
        while time.monotonic() < until and ui.poll() is None:
            try:
                url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=10"
                return urllib.request.urlopen(url, timeout=20).read().decode()
            except OSError:
                time.sleep(1)
        return (folder / "ui.log").read_text()
    finally:
        os.killpg(ui.pid, signal.SIGKILL)  # with the processes that it started
