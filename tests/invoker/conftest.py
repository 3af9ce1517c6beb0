"""A backend of real containers in a short directory (unix socket paths are bounded), and calls to run in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from fallow.core.model import ActionSpec
from fallow.infra import codec
from fallow.infra.messages import Run
from fallow.infra.records import ActionDoc
from fallow.infra.redis_server import start_redis
from fallow.infra.store import Store
from invoker.backends.process import ProcessBackend
from support.invoker_rig import Controller


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], object]]:
    """The loop that serves: uvloop's transports and readers differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def run_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def backend(run_dir: Path) -> AsyncIterator[ProcessBackend]:
    made = ProcessBackend(run_dir=run_dir)
    await made.open()
    yield made
    await made.close()
    assert not [name for name in os.listdir(run_dir) if name != "code"]


@pytest.fixture
def make_spec():
    def make(**changes: object) -> ActionSpec:
        fields = {
            "namespace": "guest",
            "name": "echo",
            "version": "0.0.1",
            "revision": "r1",
            "kind": "python:3",
            "code_digest": "d1",
            "timeout_s": 10.0,
            "memory_mb": 128,
        }
        return ActionSpec(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_run():
    def make(spec: ActionSpec, activation_id: str = "a" * 32, args: object = None, **changes: object) -> Run:
        fields = {
            "activation_id": activation_id,
            "attempt": 1,
            "seq": 1,
            "action": codec.encode_action(spec),
            "args": json.dumps(args if args is not None else {}).encode(),
            "cap_cores": 1.0,
            "subject": "guest",
            "transaction_id": 't"1',
            "accepted_unix_ms": 1_700_000_000_000,
        }
        return Run(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    redis = await start_redis(state_dir=folder, run_dir=folder)
    opened = await Store.open(redis.url)
    opened.test_url = redis.url  # type: ignore[attr-defined]
    yield opened
    await opened.close()
    await redis.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def controller(store: Store) -> AsyncIterator[Controller]:
    made = Controller(store)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def deploy(store: Store, make_spec: Callable[..., ActionSpec]) -> Callable[..., Awaitable[ActionSpec]]:
    async def put(name: str, code: bytes, **changes: object) -> ActionSpec:
        digest = hashlib.sha256(code).hexdigest()
        doc = ActionDoc(
            namespace="guest",
            name=name,
            version="0.0.1",
            revision="",
            updated_unix_ms=1,
            kind="python:3",
            code_digest=digest,
            code_bytes=len(code),
        )
        doc = await store.put_action(doc, code, expect=None)
        return make_spec(name=name, revision=doc.revision, code_digest=digest, **changes)

    return put
