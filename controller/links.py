"""What invokers say over their links, told to the dispatcher."""

from __future__ import annotations

import asyncio

from controller.dispatcher import Dispatcher
from controller.peers import Peers
from fallow.core.cluster.events import AttemptReturned, VmJoined, VmReported
from fallow.core.model import ActivationId, Resources, ReturnReason, VmId, VmInfo, VmKind, VmReport
from fallow.infra import codec
from fallow.infra.link import Link
from fallow.infra.log import get_logger
from fallow.infra.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    CommandDone,
    Completed,
    Hello,
    Message,
    Recorded,
    Rejected,
    Report,
    Result,
    Returned,
)

HELLO_TIMEOUT_S = 5.0

_log = get_logger("controller.links")


class Links:
    """Serves the links that invokers dial."""

    def __init__(self, dispatcher: Dispatcher, peers: Peers) -> None:
        self._dispatcher = dispatcher
        self._peers = peers

    async def serve(self, link: Link) -> None:
        """The whole life of one link, from its Hello to its end."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(aiter(link), None)
        except TimeoutError:
            first = None
        if not first or not isinstance(first[0], Hello):
            link.send(Rejected(reason="the first message must be Hello"))
            return
        try:
            joined = _joined(first[0])
        except ValueError as e:
            _log.warning("invoker rejected", vm=first[0].vm_id, peer=link.peer, reason=str(e))
            link.send(Rejected(reason=str(e)))
            return
        await self._serve_vm(link, joined, first[1:])

    async def _serve_vm(self, link: Link, joined: VmJoined, first: list[Message]) -> None:
        vm_id = joined.vm.id
        self._peers.add(joined.vm, link)
        self._dispatcher.join(joined, link)
        _log.info("VM joined", vm=vm_id, kind=joined.vm.kind.value, peer=link.peer, holds=len(joined.holds))
        try:
            self._tell(vm_id, first)
            async for messages in link:
                if not self._peers.is_current(vm_id, link):
                    break  # dropped as lost, or replaced: what it says now comes too late
                self._tell(vm_id, messages)
        finally:
            if self._peers.remove(vm_id, link):
                _log.info("VM disconnected", vm=vm_id, reason=link.close_reason)
                self._dispatcher.disconnected(vm_id)

    def _tell(self, vm_id: VmId, messages: list[Message]) -> None:
        for message in messages:
            try:
                self._tell_one(vm_id, message)
            except (KeyError, ValueError) as e:
                # One bad message of one VM must not take the controller down; what it was about runs into its deadline.
                _log.error(
                    "message not handled",
                    vm=vm_id,
                    message=type(message).__name__,
                    activation=getattr(message, "activation_id", ""),
                    error=repr(e),
                )

    def _tell_one(self, vm_id: VmId, message: Message) -> None:
        dispatcher = self._dispatcher
        match message:
            case Result():
                dispatcher.result(vm_id, message)
            case Completed():
                dispatcher.completed(vm_id, ActivationId(message.activation_id), message.attempt, message.cpu_s)
            case Recorded():
                dispatcher.recorded(message)
            case Report():
                dispatcher.apply(VmReported(vm_id=vm_id, report=vm_report(message)))
            case Returned():
                dispatcher.apply(
                    AttemptReturned(
                        vm_id=vm_id,
                        activation_id=ActivationId(message.activation_id),
                        attempt=message.attempt,
                        reason=ReturnReason(message.reason),
                        waits=codec.decode_waits(message.waits),
                    )
                )
            case CommandDone():
                self._peers.command_done(message)
            case _:
                _log.warning("message ignored", vm=vm_id, message=type(message).__name__)


def _joined(hello: Hello) -> VmJoined:
    """Raises ValueError, in words, for a Hello that cannot be accepted."""
    if hello.protocol_min > PROTOCOL_MAX or hello.protocol_max < PROTOCOL_MIN:
        spoken = f"{hello.protocol_min} to {hello.protocol_max}"
        raise ValueError(f"no common protocol: the invoker speaks {spoken}, here {PROTOCOL_MIN} to {PROTOCOL_MAX}")
    if not hello.vm_id or not hello.incarnation:
        raise ValueError("vm_id and incarnation must not be empty")
    info = VmInfo(
        id=VmId(hello.vm_id),
        incarnation=hello.incarnation,
        kind=VmKind(hello.kind),
        speed=hello.speed,
        price=hello.price,
        runtimes=tuple(hello.runtimes),
        emulated=hello.emulated,
        cpu_enforced=hello.cpu_enforced,
        cpu_note=hello.cpu_note,
    )
    holds = tuple((ActivationId(activation_id), attempt) for activation_id, attempt in hello.holds)
    return VmJoined(vm=info, report=vm_report(hello.report), holds=holds)


def vm_report(report: Report) -> VmReport:
    """The report of the wire as the brain takes it."""
    return VmReport(
        capacity=Resources(cpu_cores=report.cores, memory_mb=report.memory_mb),
        used=Resources(cpu_cores=report.cpu_used, memory_mb=report.memory_used_mb),
        running=report.running,
        queued=report.queued,
        full=report.full,
        healthy=report.healthy,
        health_note=report.health_note,
        notice_left_s=report.notice_left_s,
        seen=report.seen,
        controllers=report.controllers,
        warm=report.warm,
        used_by=tuple((ActivationId(one), attempt, cpu_s) for one, attempt, cpu_s in report.used_by),
    )
