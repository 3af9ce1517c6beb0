"""The D-Bus client against a bus on a socket that speaks the protocol, and goes wrong in the ways that a bus does."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jeepney import HeaderFields, Message, Parser, new_error, new_method_return

from harvest_agent.cgroups.bus import ACCESS_DENIED, NO_SUCH_UNIT, BusError, SystemBus


class FakeBus:
    """Serves one connection after another. `mood`: what it does with a call of systemd."""

    def __init__(self, path: Path) -> None:
        self.mood = "answers"
        self.asked: list[tuple[str, str, tuple[object, ...]]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=30)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                with link:
                    self._talk(link)

    def _talk(self, link: socket.socket) -> None:
        data = b""
        while b"BEGIN\r\n" not in data:
            if not (more := link.recv(4096)):
                return
            data += more
            if b"AUTH EXTERNAL" in more:
                link.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
            elif b"NEGOTIATE" in more:
                link.sendall(b"ERROR\r\n")
        parser = Parser()
        more = data.partition(b"BEGIN\r\n")[2] or link.recv(4096)  # what follows may have come with it
        while more:
            parser.add_data(more)
            while (message := parser.get_next_message()) is not None:
                if not self._answer(link, message):
                    return
            more = link.recv(4096)

    def _answer(self, link: socket.socket, message: Message) -> bool:
        fields = message.header.fields
        member, signature = fields[HeaderFields.member], fields.get(HeaderFields.signature, "")
        if member == "Hello":
            link.sendall(new_method_return(message, "s", (":1.7",)).serialise(1))
            return True
        self.asked.append((member, signature, message.body))
        if self.mood == "hangs":
            return link.recv(4096) != b""  # until the caller gives up
        if self.mood == "breaks":
            return False
        if self.mood in (ACCESS_DENIED, NO_SUCH_UNIT):
            link.sendall(new_error(message, self.mood, "s", ("no",)).serialise(2))
            return True
        unasked = new_method_return(message, "s", ("another's",))
        unasked.header.fields[HeaderFields.reply_serial] = 999
        link.sendall(unasked.serialise(2) + new_method_return(message, "o", ("/job/1",)).serialise(3))
        return True


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBus]:
    path = tmp_path / "bus"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    fake = FakeBus(path)
    yield fake
    fake.close()


def test_a_call_arrives_as_it_was_made(bus: FakeBus) -> None:
    quota = [("CPUQuotaPerSecUSec", ("t", 500_000)), ("CPUQuotaPeriodUSec", ("t", 50_000))]
    SystemBus().call("SetUnitProperties", "sba(sv)", ("fallow_c-h1.slice", True, quota))
    SystemBus().call("StopUnit", "ss", ("fallow_c-h1.slice", "replace"))
    assert bus.asked == [
        ("SetUnitProperties", "sba(sv)", ("fallow_c-h1.slice", True, quota)),
        ("StopUnit", "ss", ("fallow_c-h1.slice", "replace")),
    ]


@pytest.mark.parametrize(
    ("name", "hint"), [(ACCESS_DENIED, r" \(in a container, AppArmor's .* apparmor=unconfined\)"), (NO_SUCH_UNIT, "")]
)
def test_a_refusal_has_its_name(bus: FakeBus, name: str, hint: str) -> None:
    bus.mood = name
    with pytest.raises(BusError, match=f"^{name}: StopUnit was refused: no{hint}$") as e:
        SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))
    assert e.value.name == name


def test_a_bus_that_hangs_is_given_up(bus: FakeBus) -> None:
    bus.mood = "hangs"
    with pytest.raises(BusError, match=r"NoReply: no answer to StopUnit within 0.2 s"):
        SystemBus(timeout_s=0.2).call("StopUnit", "ss", ("x.slice", "replace"))
    bus.mood = "answers"
    SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))


def test_a_bus_that_breaks_off_is_told(bus: FakeBus) -> None:
    bus.mood = "breaks"
    with pytest.raises(BusError, match="the system bus cannot be used: the bus closed the connection"):
        SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))


def test_an_address_that_is_no_sockets_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=localhost,port=1")
    with pytest.raises(BusError, match=r"the system bus cannot be used: DBus transports .*tcp.* not supported"):
        SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))


def test_no_bus_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(BusError, match=r"No such file or directory \(in a container, bind /run/dbus/system_bus_socket"):
        SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))


def test_a_socket_that_may_not_be_used_is_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an AppArmor profile forbids the file."""

    def forbidden(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("harvest_agent.cgroups.bus.prep_socket", forbidden)
    with pytest.raises(BusError, match=r"may not be used: Permission denied \(in a container, .*=unconfined") as e:
        SystemBus().call("StopUnit", "ss", ("x.slice", "replace"))
    assert e.value.name == ACCESS_DENIED
