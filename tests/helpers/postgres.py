"""A PostgreSQL server of a test."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from listeners import free_port


@contextlib.contextmanager
def running_postgres(password: str) -> Iterator[dict[str, str]]:
    """Start a server with an empty database on the loopback interface; yield the variables with which clients connect to it.

    Args:
        password: password of the user.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = installed[-1].parent if installed else Path(shutil.which("initdb") or "/nowhere/initdb").parent
    if not (binaries / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    (folder / "password").write_text(password)
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=100)

    port = free_port()
    run("initdb", "-U", "mlflow", "-E", "UTF8", "--no-locale", "--auth=scram-sha-256", f"--pwfile={folder}/password")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGDATABASE": "postgres"}
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)
