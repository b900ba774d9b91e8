"""What listens beyond this machine, and whether it lets a stranger in."""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import grpc

CALLS = (
    "NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVKeys", "NodeManagerService/GetNodeStats",
    "NodeManagerService/RequestWorkerLease", "ObjectManagerService/Pull", "CoreWorkerService/PushTask", "RayletDriver/ClusterInfo",
)  # fmt: skip
"""One or two of each service that Ray has."""


def processes(mark: str) -> set[int]:
    """Those that have the mark in their environment: children inherit it, also those that leave their process group."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def beyond_loopback(pids: set[int]) -> list[str]:
    """HOST:PORT of their listening TCP sockets, loopback left out."""
    inodes = set()
    for pid in pids:
        try:
            inodes |= {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            address, port = local.split(":")
            if state == "0A" and f"socket:[{inode}]" in inodes and not _loopback(address):
                found.add(f"{_host(address)}:{int(port, 16)}")
    return sorted(found)


def _loopback(address: str) -> bool:
    """Of /proc/net: four bytes a word, each word in the machine's order."""
    v6 = ("0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000")
    return address in v6 if len(address) == 32 else address.endswith("7F")


def _host(address: str) -> str:
    if not int(address, 16):
        return "127.0.0.1"  # all interfaces, so this one too
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address[-8:])))


def is_head(address: str, token: str) -> bool:
    """Whether a cluster can be joined here with this token."""
    return answers(address, token, CALLS[:1]) == {"OK"}


def answers(address: str, token: str = "", calls: Sequence[str] = CALLS) -> set[str]:
    """What a listener says to a client with this token: names of gRPC codes without UNIMPLEMENTED, or an HTTP status."""
    said = set()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for call in calls:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=30, metadata=metadata)
                said.add("OK")
            except grpc.RpcError as error:
                said.add(error.code().name)  # type: ignore[attr-defined]
    if said == {"UNAVAILABLE"}:
        return {_http(address, token)}
    return said - {"UNIMPLEMENTED"}


def _http(address: str, token: str) -> str:
    request = urllib.request.Request(f"http://{address}/", data=b"")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        return str(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__
