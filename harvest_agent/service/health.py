"""Whether the service does what it is there for. Light: a container engine asks every few seconds, in a new process."""

from __future__ import annotations

import http.client
import json
import socket
from enum import StrEnum
from pathlib import Path
from typing import Any

_TIMEOUT_S = 3.0


class Phase(StrEnum):
    AWAY = "away"  # between two lives
    UP = "up"  # there is an agent: starting, serving or ending


def socket_of(agent_socket: str) -> Path:
    """Where the service tells its phase, beside the socket of its agents."""
    return Path(agent_socket).with_name("service.sock")


def is_healthy(agent_socket: str) -> tuple[bool, str]:
    """The VM is away, or its agent serves; and that in words."""
    try:
        service = _get(socket_of(agent_socket), "/v1/service")
        if service["phase"] == Phase.AWAY:
            return True, "the VM is away, between two lives"
        state = _get(Path(agent_socket), "/v1/state")
        return True, f"{state['vm_id']} has {state['cores']:g} cores"
    except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
        return False, f"the VM is not served: {e}"


def _get(path: Path, url: str) -> Any:
    connection = _UnixConnection("agent", timeout=_TIMEOUT_S)
    connection.path = str(path)
    try:
        connection.request("GET", url)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ValueError(f"{path} answered {response.status}")
    return json.loads(body)


class _UnixConnection(http.client.HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self.path)
