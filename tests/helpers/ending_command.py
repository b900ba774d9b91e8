"""A command that ends as it is told, for tests of signals and of lost output: `ending_command.py CLOSING REST`.

It prints a line and waits. A signal interrupts it; then it closes for CLOSING seconds, which Ctrl-C skips, and takes another REST
seconds. With `print COUNT` it prints COUNT lines instead and ends with exit code 0.
"""

import sys
import time

from trainables.commands.arguments import exit_with
from trainables.terminal import signals


def work() -> int:
    """What the command does."""
    if sys.argv[1] == "print":
        for number in range(int(sys.argv[2])):
            print(f"line {number}", flush=number % 2 == 0)
        print("finished", file=sys.stderr)
        return 0
    closing, rest = map(float, sys.argv[1:])
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        signals.close()
        print(signals.description(), flush=True)
        print("closed" if signals.unless_skipped(lambda: time.sleep(closing)) else "skipped", flush=True)
        time.sleep(rest)
        return signals.EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    exit_with(work)
