"""systemd over the system D-Bus: one method call at a time, each under a deadline, each error by its name."""

from __future__ import annotations

import itertools
import socket
from typing import Protocol

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.bus import get_bus
from jeepney.io.blocking import prep_socket

from fallow.infra import clock
from harvest_agent.cgroups.kernel import CgroupError

NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
ACCESS_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
_UNREACHABLE = "org.freedesktop.DBus.Error.NoServer"
_NO_REPLY = "org.freedesktop.DBus.Error.NoReply"

_CALL_TIMEOUT_S = 2.0
_READ_BYTES = 65536
_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
_BUS = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus")
_HINTS = {
    ACCESS_DENIED: "in a container, AppArmor's docker-default profile denies the bus: run it with "
    "security_opt apparmor=unconfined",
    _UNREACHABLE: "in a container, bind /run/dbus/system_bus_socket in",
}


class BusError(CgroupError):
    """The bus or systemd refused, or did not answer; `name` is D-Bus's for it."""

    def __init__(self, name: str, text: str) -> None:
        hint = f" ({_HINTS[name]})" if name in _HINTS else ""
        super().__init__(f"{name}: {text}{hint}")
        self.name = name


class Bus(Protocol):
    """systemd's manager as it is asked here; a seam so that its worlds are tested where there is none."""

    def call(self, method: str, signature: str, body: tuple[object, ...]) -> None:
        """Raises BusError."""


class SystemBus:
    """The real one. Each call has a connection of its own, which costs a millisecond and leaves nothing to mend or
    close: the bus may be started anew between two resizes."""

    def __init__(self, *, timeout_s: float = _CALL_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def call(self, method: str, signature: str, body: tuple[object, ...]) -> None:
        deadline_mono_s = clock.mono_s() + self._timeout_s
        try:
            with prep_socket(get_bus("SYSTEM"), timeout=self._timeout_s) as link:
                connection = _Connection(link, deadline_mono_s)
                _check(connection.ask(new_method_call(_BUS, "Hello")), "Hello")
                reply = connection.ask(new_method_call(_MANAGER, method, signature, body))
        except TimeoutError:
            raise BusError(_NO_REPLY, f"no answer to {method} within {self._timeout_s:g} s") from None
        except PermissionError as e:  # a profile may forbid the socket itself
            raise BusError(ACCESS_DENIED, f"the system bus may not be used: {e.strerror}") from e
        except (
            OSError,
            RuntimeError,
            AuthenticationError,
            ValueError,
        ) as e:  # RuntimeError: no address of a unix socket
            raise BusError(_UNREACHABLE, f"the system bus cannot be used: {getattr(e, 'strerror', None) or e}") from e
        _check(reply, method)


class _Connection:
    """Raises OSError, TimeoutError after the deadline."""

    def __init__(self, link: socket.socket, deadline_mono_s: float) -> None:
        self._link = link
        self._deadline_mono_s = deadline_mono_s
        self._parser = Parser()
        self._serials = itertools.count(1)

    def ask(self, message: Message) -> Message:
        serial = next(self._serials)
        self._limit()
        self._link.sendall(message.serialise(serial))
        while True:
            reply = self._parser.get_next_message()
            if reply is None:
                self._limit()
                data = self._link.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError(None, "the bus closed the connection")
                self._parser.add_data(data)
            elif reply.header.fields.get(HeaderFields.reply_serial) == serial:  # all else is a signal for nobody here
                return reply

    def _limit(self) -> None:
        left_s = self._deadline_mono_s - clock.mono_s()
        if left_s <= 0:
            raise TimeoutError
        self._link.settimeout(left_s)


def _check(reply: Message, method: str) -> None:
    """Raises BusError for an answer that is an error."""
    if reply.header.message_type is MessageType.error:
        name = str(reply.header.fields.get(HeaderFields.error_name, "an error without a name"))
        text = str(reply.body[0]) if reply.body else "no reason given"
        raise BusError(name, f"{method} was refused: {text}")
