"""The link over real sockets: order, batching, back pressure, and every way a link ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
import uvloop
from aiohttp import web

from fallow.infra import link as link_module
from fallow.infra.link import Link, LinkError, LinkServer, dial
from fallow.infra.messages import Completed, Message, Recorded, Rejected, Run

SECRET = "s3cret"


def completed(n: int) -> Completed:
    return Completed(activation_id=f"{n:032x}", attempt=1)


def run_of(size: int) -> Run:
    return Run(
        activation_id="a" * 32,
        attempt=1,
        seq=1,
        action=b"",
        args=bytes(size),
        cap_cores=1.0,
        subject="s",
        transaction_id="t",
        accepted_unix_ms=0,
    )


class Ends:
    """A served link and its dialled other end."""

    def __init__(self, server: Link, client: Link) -> None:
        self.server = server
        self.client = client


@asynccontextmanager
async def served(on_link: Callable[[Link], Awaitable[None]]) -> AsyncIterator[int]:
    server = LinkServer(SECRET, on_link)
    app = web.Application()
    app.router.add_get("/link", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await server.close()
        await runner.cleanup()


@asynccontextmanager
async def linked(proxy: Proxy | None = None) -> AsyncIterator[Ends]:
    """Two ends; the server's `on_link` only waits, so that the test reads the link itself."""
    came: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def on_link(link: Link) -> None:
        came.set_result(link)
        await over.wait()

    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(served(on_link))
        if proxy is not None:
            port = await stack.enter_async_context(proxy.serve(port))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = await dial(session, f"ws://127.0.0.1:{port}/link", SECRET, timeout_s=5)
        stack.push_async_callback(client.close)
        stack.callback(over.set)
        yield Ends(await came, client)


class Proxy:
    """Passes bytes on until told to be silent; then it keeps both connections open and swallows everything."""

    def __init__(self) -> None:
        self.silent = False
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self, target_port: int) -> AsyncIterator[int]:
        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target_port)
            for source, sink in ((reader, up_writer), (up_reader, writer)):
                task = asyncio.create_task(self._pump(source, sink))
                self._tasks.add(task)

        server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            server.close()
            await server.wait_closed()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self.silent:
                    sink.write(data)
                    await sink.drain()
            if self.silent:
                await asyncio.Event().wait()  # the end of one side is kept from the other too
        except ConnectionError:
            pass
        finally:
            sink.close()


async def read_messages(link: Link, count: int) -> list[Message]:
    got: list[Message] = []
    while len(got) < count:
        got += await anext(link)
    return got


async def until_end(link: Link) -> None:
    async for _ in link:
        pass


async def test_messages_arrive_in_order_both_ways() -> None:
    async with linked() as ends:
        down = [completed(n) for n in range(10_000)]
        up = [completed(n) for n in range(10_000, 20_000)]
        assert all(ends.server.send(m) for m in down)
        assert all(ends.client.send(m) for m in up)
        assert await read_messages(ends.client, len(down)) == down
        assert await read_messages(ends.server, len(up)) == up
        assert ends.client.queued_bytes == 0


async def test_messages_of_one_turn_leave_in_one_frame() -> None:
    async with linked() as ends:
        sent = [completed(n) for n in range(100)]
        for message in sent:
            ends.client.send(message)
        assert await anext(ends.server) == sent
        ends.client.send(completed(100))
        assert await anext(ends.server) == [completed(100)]


async def test_large_bursts_are_split_into_frames() -> None:
    async with linked() as ends:
        sent = [run_of(1 << 20) for _ in range(10)]
        for message in sent:
            assert ends.client.send(message)
        frames: list[list[Message]] = []
        while sum(map(len, frames)) < len(sent):
            frames.append(await anext(ends.server))
        assert [m for f in frames for m in f] == sent
        assert all(len(f) <= 4 for f in frames)


async def test_a_message_larger_than_a_frame_passes() -> None:
    async with linked() as ends:
        big = run_of(9 << 20)
        assert ends.client.send(big)
        assert ends.client.send(completed(1))
        assert await read_messages(ends.server, 2) == [big, completed(1)]


async def test_full_queue_refuses_without_blocking_and_recovers() -> None:
    async with linked() as ends:
        message = run_of(1 << 20)
        accepted = 0
        while ends.client.send(message):  # one turn: nothing leaves meanwhile
            accepted += 1
        assert accepted == (32 << 20) // ((1 << 20) + 200)
        assert not ends.client.closed
        await read_messages(ends.server, accepted)
        assert ends.client.send(completed(1))
        assert await read_messages(ends.server, 1) == [completed(1)]


async def test_a_peer_that_does_not_read_fills_the_queue() -> None:
    async with linked() as ends:
        message = run_of(4 << 20)
        refused = False
        for _ in range(100):  # 400 MiB: far beyond the queue's bound and what the kernel takes
            refused = refused or not ends.client.send(message)
            await asyncio.sleep(0)
        assert refused


async def test_queued_messages_arrive_before_an_orderly_close() -> None:
    async with linked() as ends:
        ends.server.send(Rejected(reason="protocol 9 is not spoken here"))
        closing = asyncio.create_task(ends.server.close())
        batches = [batch async for batch in ends.client]
        await closing
        assert batches == [[Rejected(reason="protocol 9 is not spoken here")]]
        assert ends.client.closed
        assert ends.client.close_reason == "closed by the peer"
        assert not ends.client.send(completed(1))
        assert not ends.server.send(completed(1))


async def test_close_ends_the_own_iteration_and_may_be_repeated() -> None:
    async with linked() as ends:
        reading = asyncio.create_task(until_end(ends.client))
        await asyncio.sleep(0)
        await asyncio.gather(ends.client.close(), ends.client.close())
        await reading
        await ends.client.close()
        await until_end(ends.client)
        await until_end(ends.server)
        assert ends.server.closed


async def test_the_servers_end_closes_every_link() -> None:
    ended = asyncio.Event()

    async def on_link(link: Link) -> None:
        await until_end(link)
        ended.set()

    server = LinkServer(SECRET, on_link)
    app = web.Application()
    app.router.add_get("/link", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        client = await dial(session, f"ws://127.0.0.1:{runner.addresses[0][1]}/link", SECRET, timeout_s=5)
        await asyncio.gather(server.close(), until_end(client))
        await ended.wait()
        await client.close()
    await runner.cleanup()


@pytest.mark.parametrize("given", ["", "wrong", SECRET + "x"])
async def test_wrong_secret_is_refused(given: str) -> None:
    async def on_link(link: Link) -> None:
        raise AssertionError("must not be reached")

    async with served(on_link) as port, aiohttp.ClientSession() as session:
        url = f"ws://127.0.0.1:{port}/link"
        with pytest.raises(LinkError, match=r"/link: the join secret is refused"):
            await dial(session, url, given, timeout_s=5)
        async with session.get(url.replace("ws:", "http:")) as response:
            assert response.status == 401


def test_an_empty_secret_is_refused() -> None:
    async def on_link(link: Link) -> None:
        return None

    with pytest.raises(ValueError, match="join_secret is empty"):
        LinkServer("", on_link)


async def test_dial_says_why_it_failed(unused_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(LinkError, match=f"127.0.0.1:{unused_port}"):
            await dial(session, f"ws://127.0.0.1:{unused_port}/link", SECRET, timeout_s=5)
        with pytest.raises(LinkError):
            await dial(session, "not a url", SECRET, timeout_s=5)


async def test_dial_has_a_deadline() -> None:
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(LinkError, match=r"no answer within 0\.05 s"):
            await dial(session, f"ws://127.0.0.1:{port}/link", SECRET, timeout_s=0.05)
    await gone.wait()
    server.close()
    await server.wait_closed()


async def test_a_malformed_frame_ends_the_link() -> None:
    async with linked() as ends:
        await ends.client._ws.send_bytes(b"\xc1 no msgpack")
        await until_end(ends.server)
        assert ends.server.close_reason.startswith("malformed frame")
        await until_end(ends.client)
        assert ends.client.closed


async def test_a_text_frame_ends_the_link() -> None:
    async with linked() as ends:
        await ends.client._ws.send_str("hello")
        await until_end(ends.server)
        assert ends.server.close_reason == "unexpected TEXT frame"


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_TICK_S", 0.05)
    proxy = Proxy()
    async with linked(proxy) as ends:
        proxy.silent = True
        await asyncio.gather(until_end(ends.client), until_end(ends.server))
        assert ends.client.close_reason == "peer is silent"
        assert not ends.client.send(completed(1))


async def test_a_silent_peer_is_given_up_while_the_writer_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked() as ends:  # the server's end is never read, so it answers no ping and takes no bytes
        message = run_of(4 << 20)
        for _ in range(16):
            ends.client.send(message)
            await asyncio.sleep(0)
        assert ends.client.queued_bytes > 0
        monkeypatch.setattr(link_module, "_TICK_S", 0.05)
        await until_end(ends.client)
        assert ends.client.closed
        assert ends.client.queued_bytes == 0


async def test_pings_keep_an_idle_link_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_TICK_S", 0.01)
    async with linked() as ends:
        readers = [asyncio.create_task(until_end(end)) for end in (ends.client, ends.server)]
        for _ in range(30):  # ticks, where 4 silent ones end a link
            await asyncio.sleep(0.01)
        assert not ends.client.closed
        assert not ends.server.closed
        await ends.client.close()
        await asyncio.gather(*readers)


async def test_a_message_without_a_wire_form_is_refused_at_once() -> None:
    async with linked() as ends:
        with pytest.raises(ValueError, match="cannot encode Completed"):
            ends.client.send(Completed(activation_id="a", attempt=1 << 70))
        assert ends.client.send(Recorded(activation_ids=["a"]))
        assert await anext(ends.server) == [Recorded(activation_ids=["a"])]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    "scenario",
    [
        test_messages_arrive_in_order_both_ways,
        test_messages_of_one_turn_leave_in_one_frame,
        test_full_queue_refuses_without_blocking_and_recovers,
        test_queued_messages_arrive_before_an_orderly_close,
        test_close_ends_the_own_iteration_and_may_be_repeated,
        test_a_malformed_frame_ends_the_link,
    ],
)
def test_the_same_on_uvloop(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """The loop of the processes, whose sockets and write buffers behave in their own way."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    "scenario",
    [test_a_silent_peer_is_given_up, test_a_silent_peer_is_given_up_while_the_writer_waits_for_it],
)
def test_silence_on_uvloop(
    scenario: Callable[[pytest.MonkeyPatch], Coroutine[None, None, None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario(monkeypatch))
