"""Tests of standard streams that are lost: pipes without a reader, full devices, closed descriptors and closed terminals."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

COMMAND = f"{sys.executable} {Path(__file__).parents[2] / 'helpers/ending_command.py'}"
LINES = 20_000
"""More than the buffers of a pipe and of the command contain."""


def shell(line: str, tmp_path: Path) -> tuple[int, str, str]:
    """Run a line with a command in a shell; returns the exit code of the command, and the output of the line."""
    done = subprocess.run(["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}} > code"], cwd=tmp_path, capture_output=True, text=True)
    return int((tmp_path / "code").read_text()), done.stdout, done.stderr


@pytest.mark.parametrize(("line", "reason"), [
    ("{} 2>err | head -1", "Broken pipe"), ("{} 2>err | true", "Broken pipe"), ("{} 2>err > /dev/full", "No space left on device"),
])  # fmt: skip
def test_a_command_whose_output_is_lost_says_so_once_and_continues_to_its_end(line, reason, tmp_path):
    code, _, err = shell(line.format(f"{COMMAND} print {LINES}"), tmp_path)
    notice = f"standard output is lost ({reason}); the command continues without it\n"
    assert (code, err, (tmp_path / "err").read_text()) == (0, "", f"{notice}finished\n")


def test_little_output_that_is_only_written_at_the_end_is_lost_without_python_s_own_message(tmp_path):
    """Without a flush of ours, Python would print "Exception ignored" and exit with 120."""
    code, _, err = shell(f"{COMMAND} print 2 > /dev/full", tmp_path)
    assert code == 0 and err.count("standard output is lost") == 1 and "Exception" not in err


@pytest.mark.parametrize("line", ["{} >&-", "{} 2>&-", "{} <&- >&- 2>&-", "{} 2>&1 | true", "{} > /dev/full 2>&1"])
def test_closed_streams_do_not_change_the_exit_code(line, tmp_path):
    code, _, err = shell(line.format(f"{COMMAND} print {LINES}"), tmp_path)
    assert code == 0 and "Traceback" not in err


@pytest.mark.parametrize(("stream", "code"), [("", 0), (">&-", 1), ("> /dev/full", 1), ("2>&-", 0)])
def test_an_object_for_programs_that_cannot_be_written_is_known_to_be_lost(stream, code, tmp_path):
    script = tmp_path / "s.py"
    script.write_text(
        "from trainables.commands.arguments import exit_with\nfrom trainables.terminal.console import Terminal\n"
        "exit_with(lambda: int(not Terminal('json').print_json({'a': 1})))\n"
    )
    root = Path(__file__).parents[3]
    assert shell(f"PYTHONPATH={root} {sys.executable} s.py {stream}", tmp_path)[0] == code


def test_a_file_that_is_opened_later_does_not_become_the_closed_standard_output(tmp_path):
    script = tmp_path / "s.py"
    script.write_text(
        "import os\nfrom trainables.commands.arguments import exit_with\n"
        "def work():\n    file = open('data', 'w')\n    print('text', flush=True)\n    os.write(1, b'of a library')\n    return 0\n"
        "exit_with(work)\n"
    )
    root = Path(__file__).parents[3]
    assert shell(f"PYTHONPATH={root} {sys.executable} s.py >&-", tmp_path)[0] == 0
    assert (tmp_path / "data").read_text() == ""


def test_output_that_the_encoding_cannot_express_is_escaped(tmp_path):
    script = tmp_path / "s.py"
    script.write_text(
        "from trainables.commands.arguments import exit_with\nexit_with(lambda: print('\\N{GREEK SMALL LETTER EPSILON}') or 0)\n"
    )
    root = Path(__file__).parents[3]
    line = f"PYTHONIOENCODING=ascii PYTHONPATH={root} {sys.executable} s.py"
    assert shell(line, tmp_path) == (0, "\\u03b5\n", "")


def test_a_closed_terminal_interrupts_the_command_which_ends_its_runs():
    """The kernel sends SIGHUP, and every later write to the terminal fails."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND.split(), "0", "0"])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
