"""The invokers that are linked to this controller now: who is there, and how to send to them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NoReturn

from fallow.core.model import VmId, VmInfo
from fallow.infra.link import Link
from fallow.infra.messages import PROTOCOL_MAX, CommandDone, Message, VmCommand

COMMAND_TIMEOUT_S = 5.0


class CommandError(Exception):
    """An operator's command did not reach its VM, or the VM refused it. `refused` tells the two apart."""

    def __init__(self, text: str, *, refused: bool) -> None:
        super().__init__(text)
        self.refused = refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peer:
    info: VmInfo
    link: Link


class Peers:
    """One link a VM: a newer one replaces the older."""

    protocol = PROTOCOL_MAX

    def __init__(self) -> None:
        self._peers: dict[VmId, _Peer] = {}
        self._offered: dict[str, None] = {}  # runtimes any VM has offered
        self._to_close: asyncio.Queue[Link] = asyncio.Queue()
        self._commands: dict[int, asyncio.Future[str]] = {}
        self._last_command = 0

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, vm_id: VmId) -> bool:
        return vm_id in self._peers

    @property
    def offered(self) -> tuple[str, ...]:
        """Runtime kinds that some VM has offered since this controller started."""
        return tuple(self._offered)

    @property
    def live(self) -> frozenset[str]:
        """Runtime kinds that VMs linked now offer."""
        return frozenset(kind for peer in tuple(self._peers.values()) for kind in peer.info.runtimes)

    def info(self, vm_id: VmId) -> VmInfo | None:
        """What a linked VM said of itself; None where none of that id is linked."""
        peer = self._peers.get(vm_id)
        return peer.info if peer else None

    def add(self, info: VmInfo, link: Link) -> None:
        old = self._peers.pop(info.id, None)
        if old is not None:
            self._to_close.put_nowait(old.link)
        self._peers[info.id] = _Peer(info=info, link=link)
        self._offered.update(dict.fromkeys(info.runtimes))

    def is_current(self, vm_id: VmId, link: Link) -> bool:
        peer = self._peers.get(vm_id)
        return peer is not None and peer.link is link

    def remove(self, vm_id: VmId, link: Link) -> bool:
        """Takes a link out; False where another has taken its place already."""
        if not self.is_current(vm_id, link):
            return False
        del self._peers[vm_id]
        return True

    def drop(self, vm_id: VmId) -> None:
        """Closes the VM's link: nothing more is heard from it unless it dials again."""
        peer = self._peers.pop(vm_id, None)
        if peer is not None:
            self._to_close.put_nowait(peer.link)

    def send(self, vm_id: VmId, message: Message) -> bool:
        """False = not linked, closed, or its send queue is full."""
        peer = self._peers.get(vm_id)
        return peer is not None and peer.link.send(message)

    async def close_dropped(self) -> NoReturn:
        """Closes what was dropped or replaced; a link's close has its own deadline."""
        while True:
            link = await self._to_close.get()
            await link.close()

    # ---- operator's commands -----------------------------------------------------------------------------------------

    async def command(
        self, vm_id: VmId, verb: str, *, cores: float | None = None, notice_s: float | None = None
    ) -> None:
        """Has an emulated VM resized, evicted or its notice withdrawn. Raises CommandError in words, within 5 s."""
        self._last_command += 1
        command_id = self._last_command
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._commands[command_id] = done
        try:
            if not self.send(vm_id, VmCommand(command_id=command_id, verb=verb, cores=cores, notice_s=notice_s)):
                raise CommandError(f"VM '{vm_id}' cannot be reached right now.", refused=False)
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                error = await done
        except TimeoutError:
            text = f"VM '{vm_id}' did not answer the command '{verb}' within {COMMAND_TIMEOUT_S:g} s."
            raise CommandError(text, refused=False) from None
        finally:
            del self._commands[command_id]
        if error:
            raise CommandError(error, refused=True)

    def command_done(self, message: CommandDone) -> None:
        done = self._commands.get(message.command_id)
        if done is not None and not done.done():
            done.set_result(message.error)
