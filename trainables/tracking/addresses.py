"""Addresses of servers: their parts, and whether something answers there."""

import socket
from urllib.parse import urlsplit


def parts_of(uri: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URI; empty if it cannot be parsed."""
    try:
        parts = urlsplit(uri)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None


def answers(host: str, port: int, timeout: float) -> bool:
    """Whether a server accepts connections at an address within `timeout` seconds."""
    try:
        socket.create_connection((host, port), timeout=timeout).close()
    except (OSError, ValueError):  # ValueError: not a host name
        return False
    return True
