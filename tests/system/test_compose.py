"""The whole cluster as `docker compose up` starts it: functions called, VMs changed and lost, and all of it gone."""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.compose import HARVEST, ROOT, V1, V2, ComposeCluster, compose_cluster, eventually, has_v1
from support.docker_engine import engine_client, runtime_image

pytestmark = [pytest.mark.system, pytest.mark.docker, pytest.mark.timeout(600)]

ACTIONS = ROOT / "functions" / "actions"
NODE = "function main(args) { return { greeting: 'hello ' + args.name, node: process.versions.node }; }"
ADDRESSES = """
import os, socket, urllib.request
def main(args):
    ping = urllib.request.urlopen(os.environ["__OW_API_HOST"] + "/ping", timeout=10).status
    try:
        socket.create_connection((args["redis"], 6379), timeout=3).close()
        return {"ping": ping, "redis": "reached"}
    except OSError as e:
        return {"ping": ping, "redis": type(e).__name__}
"""
STATIC = {"TRACES": "static", "PREWARM": "python:3=1@256", "DEMO_S": "5"}


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    """Those of this code: built before the clusters, so that a failure says what it is."""
    ComposeCluster(V2).compose("build")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ComposeCluster]:
    with compose_cluster(**STATIC) as cluster:
        cluster.up()
        yield cluster


class Load:
    """Callers that invoke an action again and again until told to stop, each call to succeed."""

    def __init__(self, cluster: ComposeCluster, callers: int) -> None:
        self.calls = 0
        self.errors: list[str] = []
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.calls > len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self) -> None:
        """Waits for calls that begin and end from now on."""
        wanted = self.calls + 2 * len(self._threads)
        eventually(lambda: self.calls >= wanted)

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                assert self._cluster.invoke("sleep", ms=200) is not None
            except (AssertionError, OSError) as e:
                self.errors.append(str(e))
            self.calls += 1


def test_its_key_is_in_the_log_and_functions_answer_over_http(cluster: ComposeCluster) -> None:
    log = cluster.compose("logs", "--no-color", "setup").stdout
    assert f"key of the namespace guest: {cluster.auth}" in log
    cluster.deploy("hello", kind="python:3", code=(ACTIONS / "hello.py").read_text())
    assert "Ada" in str(cluster.invoke("hello", name="Ada"))
    cluster.deploy("node", kind="nodejs:default", code=NODE)
    assert cluster.invoke("node", name="Ada")["greeting"] == "hello Ada"
    cluster.deploy("box", kind="blackbox", image=runtime_image(kinds=False))
    assert cluster.invoke("box", name="Ada") == {"name": "Ada"}
    table = cluster.fallow("vm", "list")
    assert all(name in table for name in ("regular-1", *HARVEST))


def test_only_the_api_is_published_and_only_vms_have_the_socket(cluster: ComposeCluster) -> None:
    published, bound = set(), set()
    with engine_client() as client:
        for container in client.containers(filters={"label": [f"com.docker.compose.project={cluster.project}"]}):
            service = container["Labels"]["com.docker.compose.service"]
            found = client.inspect_container(container["Id"])
            host = found["HostConfig"]
            ports = [p for binds in (found["NetworkSettings"]["Ports"] or {}).values() for p in binds or ()]
            published |= {(service, p["HostIp"]) for p in ports}
            bound |= {service for mount in found["Mounts"] if mount["Destination"].endswith("docker.sock")}
            assert not host["Privileged"]
            assert host["PidMode"] == ""
            assert host["CapDrop"] == ["ALL"]
            assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert published == {("controller", "127.0.0.1")}
    assert bound == {"regular-1", *HARVEST}


def test_a_function_reaches_the_api_but_not_redis(cluster: ComposeCluster) -> None:
    cluster.deploy("addresses", kind="python:3", code=ADDRESSES)
    with engine_client() as client:
        (redis,) = client.containers(
            filters={"label": [f"com.docker.compose.project={cluster.project}", "com.docker.compose.service=redis"]}
        )
        (network,) = redis["NetworkSettings"]["Networks"].values()
    for address in ("redis", network["IPAddress"]):
        said = cluster.invoke("addresses", redis=address)
        assert said["ping"] == 200
        assert said["redis"] != "reached"


def test_the_load_test_has_its_page(cluster: ComposeCluster) -> None:
    cluster.compose("--profile", "loadtest", "up", "-d", "loadtest")
    page = f"http://127.0.0.1:{cluster.env['LOCUST_PORT']}"
    eventually(lambda: answers(page))
    form = urllib.parse.urlencode({"user_count": 2, "spawn_rate": 2}).encode()
    urllib.request.urlopen(f"{page}/swarm", data=form, timeout=30).close()

    def total() -> dict[str, Any]:
        with urllib.request.urlopen(f"{page}/stats/requests", timeout=30) as answer:
            rows = {row["name"]: row for row in json.loads(answer.read())["stats"]}
        return dict(rows["Aggregated"])

    eventually(lambda: total()["num_requests"] > 10)
    assert total()["num_failures"] == 0
    cluster.compose("--profile", "loadtest", "rm", "--stop", "--force", "loadtest")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_the_demo_replays_a_trace(cluster: ComposeCluster) -> None:
    said = cluster.compose("--profile", "demo", "run", "--rm", "-T", "demo").stdout
    assert "succeeded" in said


def test_vms_are_resized_evicted_and_killed_under_load(cluster: ComposeCluster) -> None:
    cluster.deploy("sleep", kind="python:3", code=(ACTIONS / "sleep.py").read_text())
    with Load(cluster, 6) as load:
        assert cluster.fallow("vm", "resize", "harvest-1", "2") == "harvest-1 has 2 cores\n"
        eventually(lambda: cluster.vms()["harvest-1"]["cores"] == 2)
        cluster.fallow("vm", "evict", "harvest-3", "--notice", "2s")
        eventually(lambda: "harvest-3.2" in cluster.usable())
        load.more()
        # Without notice, and with nobody to remove its containers but the agents of other VMs.
        eventually(lambda: cluster.function_containers("harvest-2"))
        cluster.compose("kill", "harvest-2")
        assert cluster.function_containers("harvest-2")
        eventually(lambda: not cluster.function_containers("harvest-2"))
        load.more()
    assert load.errors == []
    cluster.compose("up", "-d")
    eventually(lambda: {"regular-1", "harvest-1", "harvest-2.2", "harvest-3.2"} <= cluster.usable())


def test_down_leaves_nothing(cluster: ComposeCluster) -> None:
    eventually(cluster.function_containers)
    cluster.down()
    assert not any(cluster.left_behind().values()), cluster.left_behind()


def test_the_generated_trace_shows_shrinks_grows_and_an_eviction_with_its_return() -> None:
    with compose_cluster(ROUND_S="40", NOTICE_S="4") as cluster:
        cluster.up()
        wanted = ("VM shrinks", "VM grows", "VM is to be evicted", "VM evicted", "VM returns")

        def shown() -> bool:
            log = cluster.compose("logs", "--no-color", *HARVEST).stdout
            return all(words in log for words in wanted)

        eventually(shown, within_s=180)
        eventually(lambda: any("." in name for name in cluster.usable()))
        cluster.down()
        assert not any(cluster.left_behind().values()), cluster.left_behind()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"TRACES": "nowhere"}, "nowhere: no such file or directory"),
        ({"CORE_SCALE": "much"}, "much"),
        ({"ROUND_S": "1"}, "1.0 is not in the range"),
    ],
)
def test_a_wrong_setting_is_told_by_setup_and_nothing_else_starts(wrong: dict[str, str], says: str) -> None:
    with compose_cluster(**wrong) as cluster:
        done = cluster.compose("up", "-d", "controller", check=False)
        assert done.returncode != 0
        log = cluster.compose("logs", "--no-color", "setup").stdout
        assert says in log
        assert "Traceback" not in log
        assert not running(cluster, "controller")


def running(cluster: ComposeCluster, service: str) -> list[Any]:
    labels = [f"com.docker.compose.project={cluster.project}", f"com.docker.compose.service={service}"]
    with engine_client() as client:
        return list(client.containers(filters={"label": labels}))


@pytest.mark.skipif(not has_v1(), reason="docker-compose 1.x is not installed")
def test_the_same_file_serves_compose_1() -> None:
    with compose_cluster(V1, **STATIC) as cluster:
        cluster.up()
        cluster.deploy("hello", kind="python:3", code=(ACTIONS / "hello.py").read_text())
        assert "Ada" in str(cluster.invoke("hello", name="Ada"))
        eventually(cluster.function_containers)
        cluster.compose("down", "-v")
        assert not any(cluster.left_behind().values()), cluster.left_behind()
