"""Bit-identical comparison of training states, and functions of test files run in other processes."""

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOAD_TEST_FILE = f"""
    import importlib.util, sys
    sys.path[:0] = [{str(ROOT)!r}, {str(HERE)!r}]
    spec = importlib.util.spec_from_file_location("test_file", sys.argv[1])
    test_file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(test_file)
"""
"""Code that imports a test file as `test_file` in another process."""
WORKER = (
    LOAD_TEST_FILE
    + """
    import torch, torch.distributed as dist
    rank, folder, function = int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(getattr(test_file, function)(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
"""
)
"""Code of a worker that saves the result of a function of the test file."""


def tensors(state) -> dict[str, torch.Tensor]:
    """Every tensor and number of a state by its path, including optimizers' buffers and the curve, except the seconds."""
    values = {}

    def walk(path, node):
        if isinstance(node, torch.Tensor):
            values[path] = node.detach().clone()
        elif isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                walk(f"{path}/{key}", value)
        elif isinstance(node, int | float) and not path.endswith("epoch/seconds"):
            values[path] = torch.tensor(node, dtype=torch.float64)

    walk("", state)
    return values


def digest(state) -> str:
    """A hash that is equal exactly for bit-identical states."""
    sha = hashlib.sha256()
    for path, value in sorted(tensors(state).items()):
        sha.update(path.encode() + value.contiguous().numpy().tobytes())
    return sha.hexdigest()


def identical(a, b) -> bool:
    """Whether two states are bit-identical."""
    return digest(a) == digest(b)


def start_process(code: str, file: str, *argv: str, **options) -> subprocess.Popen[str]:
    """Start a process that imports a test file as `test_file` and then runs Python code."""
    command = [sys.executable, "-c", textwrap.dedent(LOAD_TEST_FILE) + textwrap.dedent(code), file, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run_on_two_workers(file: str, function: str, folder: Path) -> list[Any]:
    """Run a function of a test file on two gloo workers, and return its results by rank."""
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(Path(file).resolve())]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder), function], env=env, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        errors = [worker.communicate(timeout=240)[1] for worker in processes]
    finally:
        for worker in processes:
            worker.kill()
    assert [worker.returncode for worker in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
