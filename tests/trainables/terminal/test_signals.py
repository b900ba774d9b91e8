"""Tests of signals on a small command; on a whole study they are tested in tests/trainables/runs/test_interrupt.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.terminal import signals

pytestmark = pytest.mark.faults
COMMAND = Path(__file__).parents[2] / "helpers/ending_command.py"


def start(closing: float, rest: float, ignored: signal.Signals | None = None) -> subprocess.Popen[str]:
    """Start the command; it is ready to receive signals."""

    def dispositions() -> None:
        for number in signals.TERMINATIONS:
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, str(COMMAND), str(closing), str(rest)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=dispositions,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def until(process: subprocess.Popen[str], line: str) -> None:
    """Wait until the command prints a line."""
    assert process.stdout and process.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize("number", signals.TERMINATIONS, ids=lambda number: number.name)
def test_every_signal_that_ends_a_process_interrupts_the_command_which_then_exits_with_130(number):
    process = start(0, 0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    named = "interrupted" if number == signal.SIGINT else f"interrupted by {number.name}"
    assert (process.returncode, out, err) == (130, f"{named}\nclosed\n", "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=["nohup", "a background job"])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(number):
    process = start(0, 0, ignored=number)
    process.send_signal(number)
    process.send_signal(signal.SIGTERM)  # of two pending signals, the one with the lower number is delivered first
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "interrupted by SIGTERM\nclosed\n")


def test_a_scheduler_may_repeat_its_signal_without_cutting_off_the_end_of_the_runs():
    process = start(0.5, 0)
    process.send_signal(signal.SIGHUP)
    until(process, "interrupted by SIGHUP")
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "closed\n", "")


def test_a_second_ctrl_c_skips_the_waiting_and_a_third_ends_the_process_without_a_traceback():
    process = start(60, 60)
    process.send_signal(signal.SIGINT)
    until(process, "interrupted")
    process.send_signal(signal.SIGINT)
    until(process, "skipped")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "ended at once\n")


def test_ctrl_c_while_the_interpreter_ends_prints_no_traceback(tmp_path):
    """An exit handler of a library takes its time."""
    script = tmp_path / "s.py"
    script.write_text(
        "import atexit, time\nfrom trainables.commands.arguments import exit_with\n"
        "@atexit.register\ndef slow():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "exit_with(lambda: 3)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until(process, "ready")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "") and process.returncode == 3
