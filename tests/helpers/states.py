"""What tests of training share: states compared bit by bit, and a function run by two gloo workers."""

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
PEER = f"""
    import importlib.util, sys
    sys.path[:0] = [{str(ROOT)!r}, {str(HERE)!r}]
    spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
"""
"""Loads a test file in another process."""
WORKER = (
    PEER
    + """
    import torch, torch.distributed as dist
    rank, folder, function = int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(getattr(peer, function)(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
"""
)


def tensors(state) -> dict[str, torch.Tensor]:
    """Every tensor and number of a state by its path, optimizers' buffers and the curve included, but for the seconds."""
    found = {}

    def walk(path, node):
        if isinstance(node, torch.Tensor):
            found[path] = node.detach().clone()
        elif isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                walk(f"{path}/{key}", value)
        elif isinstance(node, int | float) and not path.endswith("epoch/seconds"):
            found[path] = torch.tensor(node, dtype=torch.float64)

    walk("", state)
    return found


def digest(state) -> str:
    """Equal for states that are equal to the bit."""
    sha = hashlib.sha256()
    for path, value in sorted(tensors(state).items()):
        sha.update(path.encode() + value.contiguous().numpy().tobytes())
    return sha.hexdigest()


def same(a, b) -> bool:
    """Whether two states are equal to the bit."""
    return digest(a) == digest(b)


def in_another_process(code: str, file: str, *argv: str, **options) -> subprocess.Popen[str]:
    """Python code after a test file was loaded as `peer`."""
    command = [sys.executable, "-c", textwrap.dedent(PEER) + textwrap.dedent(code), file, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def of_two_workers(file: str, function: str, folder: Path) -> list[Any]:
    """What a test file's function returns on each of two workers."""
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(Path(file).resolve())]
    both = [
        subprocess.Popen([*command, str(rank), str(folder), function], env=env, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        errors = [worker.communicate(timeout=240)[1] for worker in both]
    finally:
        for worker in both:
            worker.kill()
    assert [worker.returncode for worker in both] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
