"""Environments of processes that tests start."""

import os
import sys
from pathlib import Path


def environment(*removed: str, **variables: str) -> dict[str, str]:
    """The environment of this process, with the programs of its virtual environment first on the PATH.

    Args:
        removed: prefixes of the names of variables that are removed.
        variables: variables that are set.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    return inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
