"""Listening TCP sockets of processes, and their replies to clients with and without Ray's token."""

import socket
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import grpc

CALLS = (
    "NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVKeys", "NodeManagerService/GetNodeStats",
    "NodeManagerService/RequestWorkerLease", "ObjectManagerService/Pull", "CoreWorkerService/PushTask", "RayletDriver/ClusterInfo",
)  # fmt: skip
"""One or two methods of each of Ray's gRPC services."""


def free_port() -> int:
    """A TCP port on the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes_with(variable: str) -> set[int]:
    """IDs of the processes with this variable, NAME=VALUE, in their environment.

    Children inherit it, including those that leave their process group.
    """
    pids = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                pids.add(int(entry.name))
        except OSError:  # the process has ended, or belongs to another user
            continue
    return pids


def exposed_addresses(pids: set[int]) -> list[str]:
    """Addresses, HOST:PORT, of the processes' listening TCP sockets that are not bound to the loopback interface."""
    inodes = set()
    for pid in pids:
        try:
            inodes |= {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            host, port = local.split(":")
            if state == "0A" and f"socket:[{inode}]" in inodes and not _is_loopback(host):
                addresses.add(f"{_ip(host)}:{int(port, 16)}")
    return sorted(addresses)


def _is_loopback(host: str) -> bool:
    """Whether an address of /proc/net, words of four bytes in the machine's byte order, is on the loopback interface."""
    v6 = ("0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000")
    return host in v6 if len(host) == 32 else host.endswith("7F")


def _ip(host: str) -> str:
    if not int(host, 16):
        return "127.0.0.1"  # bound to all interfaces, including this one
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(host[-8:])))


def is_head(address: str, token: str) -> bool:
    """Whether this is the address of a Ray cluster that accepts the token."""
    return replies(address, token, CALLS[:1]) == {"OK"}


def replies(address: str, token: str = "", calls: Sequence[str] = CALLS) -> set[str]:
    """The replies of a listener to calls with a token: names of gRPC codes except UNIMPLEMENTED, or an HTTP status."""
    codes = set()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for call in calls:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=30, metadata=metadata)
                codes.add("OK")
            except grpc.RpcError as error:
                codes.add(error.code().name)  # type: ignore[attr-defined]
    if codes == {"UNAVAILABLE"}:
        return {_http_status(address, token)}
    return codes - {"UNIMPLEMENTED"}


def _http_status(address: str, token: str) -> str:
    request = urllib.request.Request(f"http://{address}/", data=b"")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        return str(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__
