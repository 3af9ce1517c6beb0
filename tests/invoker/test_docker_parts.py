"""The parts of the Docker backend that decide without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.infra.engine import Engine, EngineError
from invoker.backends.base import ImagePullError, StartError
from invoker.backends.docker.cgroup import ContainerCgroup, container_roots
from invoker.backends.docker.images import Pulls
from invoker.backends.docker.options import (
    MAX_CPU_SHARES,
    Placement,
    blackbox_image,
    cpu_shares,
    create_body,
    with_tag,
    without_image_labels,
)
from invoker.backends.docker.patience import Patience
from invoker.backends.docker.stream import FrameParser

PLACE = Placement(cluster="c1", vm_id="h1", cgroup_parent="/fallow-x/h1", network="functions")


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream + 1, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.binary(max_size=40))), st.lists(st.integers(1, 9)))
def test_frames_come_out_whole_however_they_were_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(*each) for each in frames)
    parser, found, at = FrameParser(), [], 0
    for size in [*cuts, len(data) + 1]:
        found += parser.feed(data[at : at + size])
        at += size
    for stream in (0, 1):
        assert b"".join(d for s, d in found if s == stream) == b"".join(d for s, d in frames if s == stream)
    order = [s for s, d in found if d]
    wanted = [s for s, d in frames if d]
    assert [s for n, s in enumerate(order) if n == 0 or order[n - 1] != s] == [
        s for n, s in enumerate(wanted) if n == 0 or wanted[n - 1] != s
    ]


def test_a_runtimes_container_is_hardened_and_has_no_quota() -> None:
    body = create_body(PLACE, kind="python:3", image="i:1", memory_mb=256, cap_cores=0.5, env={"__OW_API_HOST": "u"})
    assert body == {
        "Image": "i:1",
        "Env": ["__OW_API_HOST=u"],
        "Labels": {"fallow.cluster": "c1", "fallow.vm": "h1", "fallow.kind": "python:3"},
        "HostConfig": {
            "CgroupParent": "/fallow-x/h1",
            "NetworkMode": "functions",
            "CpuShares": 512,
            "Memory": 256 << 20,
            "MemorySwap": 256 << 20,
            "PidsLimit": 1024,
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "OomScoreAdj": 500,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            "RestartPolicy": {"Name": "no"},
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=256m"},
        },
    }


def test_a_blackbox_image_keeps_its_writable_layer() -> None:
    place = Placement(cluster="c1", vm_id="h1")
    host = create_body(place, kind="blackbox:a/b", image="a/b:latest", memory_mb=128, cap_cores=1, env={})["HostConfig"]
    assert not {"ReadonlyRootfs", "Tmpfs", "CgroupParent", "NetworkMode"} & set(host)
    assert host["CapDrop"] == ["ALL"]


def test_labels_of_an_image_are_emptied_but_not_ours() -> None:
    body = create_body(PLACE, kind="blackbox:a", image="a:latest", memory_mb=128, cap_cores=1, env={})
    made = without_image_labels(body, ["com.docker.compose.project", "fallow.vm", "fallow.kinds"])
    assert made == {**body, "Labels": {**body["Labels"], "com.docker.compose.project": "", "fallow.kinds": ""}}


@pytest.mark.parametrize(("cores", "shares"), [(0.0, 2), (0.001, 2), (1.0, 1024), (2.5, 2560), (1e9, MAX_CPU_SHARES)])
def test_shares_follow_the_cores_within_the_kernels_bounds(cores: float, shares: int) -> None:
    assert cpu_shares(cores) == shares


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("a", "a:latest"),
        ("a/b:1", "a/b:1"),
        ("host:5000/a", "host:5000/a:latest"),
        ("host:5000/a:2", "host:5000/a:2"),
        ("a@sha256:12", "a@sha256:12"),
    ],
)
def test_an_image_without_a_tag_is_its_latest(image: str, named: str) -> None:
    assert with_tag(image) == named
    assert blackbox_image(f"blackbox:{image}") == named


@pytest.mark.parametrize("kind", ["python:3", "nodejs:18", "blackbox", "blackbox:"])
def test_other_kinds_name_no_image(kind: str) -> None:
    assert blackbox_image(kind) is None


def test_names_and_labels_of_a_vm() -> None:
    assert PLACE.name(7) == "fallow-c1-h1-7"
    assert Placement(cluster="a/b c", vm_id="vm").name(1) == "fallow-a-b-c-vm-1"
    assert PLACE.labels == {"fallow.cluster": "c1", "fallow.vm": "h1"}


V1 = "\n".join(
    f"3{n} 31 0:3{n} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}" for n, name in enumerate(("cpu", "memory"))
)
V2 = "26 23 0:24 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n27 1 8:1 / / rw - ext4 /dev/sda1 rw"


def test_containers_are_looked_for_where_the_engine_puts_them() -> None:
    given_dirs = (Path("/sys/fs/cgroup/cpu/fallow-x/h1"),)
    found = container_roots(given_dirs, cgroup_parent="/fallow-x/h1", systemd=False, mountinfo=V1)
    assert found == (Path("/sys/fs/cgroup/cpu/fallow-x/h1"), Path("/sys/fs/cgroup/memory/fallow-x/h1"))
    assert container_roots((), cgroup_parent="", systemd=False, mountinfo=V2) == (Path("/sys/fs/cgroup/docker"),)
    assert container_roots((), cgroup_parent="", systemd=True, mountinfo=V2) == (Path("/sys/fs/cgroup/system.slice"),)
    sliced = container_roots((), cgroup_parent="fallow_x-h1.slice", systemd=True, mountinfo=V2)
    assert sliced == (Path("/sys/fs/cgroup/fallow_x.slice/fallow_x-h1.slice"),)


def test_version_1_is_read_from_its_hierarchies(tmp_path: Path) -> None:
    files = {
        "cpuacct/c9/cpuacct.usage": "2500000000\n",
        "memory/c9/memory.stat": "rss 1\nshmem 0\ntotal_rss 3145728\ntotal_shmem 1048576\n",
        "freezer/c9/freezer.state": "THAWED\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    cgroup = ContainerCgroup([tmp_path / name for name in ("none", "cpuacct", "memory", "freezer")], "c9")
    assert (cgroup.cpu_s(), cgroup.memory_mb()) == (2.5, 4.0)
    assert cgroup.freeze()
    assert (tmp_path / "freezer/c9/freezer.state").read_text().startswith("FROZEN")
    assert cgroup.thaw()
    assert (tmp_path / "freezer/c9/freezer.state").read_text().startswith("THAWED")
    cgroup.close()
    assert (cgroup.cpu_s(), cgroup.memory_mb()) == (None, None)


def test_version_2_is_read_from_one_directory_of_a_scope(tmp_path: Path) -> None:
    scope = tmp_path / "docker-c9.scope"
    scope.mkdir()
    (scope / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (scope / "memory.stat").write_text("anon 1048576\nfile 9999\nshmem 524288\n")
    (scope / "cgroup.freeze").write_text("0")
    cgroup = ContainerCgroup([tmp_path], "c9")
    assert (cgroup.cpu_s(), cgroup.memory_mb()) == (1.5, 1.5)
    assert cgroup.freeze()
    assert (scope / "cgroup.freeze").read_text() == "1"
    assert cgroup.thaw()
    assert (scope / "cgroup.freeze").read_text() == "0"
    cgroup.close()


def test_what_is_not_there_is_not_measured_and_not_frozen(tmp_path: Path) -> None:
    cgroup = ContainerCgroup([tmp_path], "c9")
    assert (cgroup.cpu_s(), cgroup.memory_mb(), cgroup.freeze(), cgroup.thaw()) == (None, None, False, False)
    cgroup.close()


async def test_a_pull_without_an_engine_is_not_the_actions_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    engine = Engine(threads=1)
    pulls = Pulls(engine)
    with pytest.raises(StartError, match="cannot pull the image a/b:1") as caught:
        await pulls.pull("a/b:1")
    assert not isinstance(caught.value, ImagePullError)
    assert caught.value.developer_error == ""
    await pulls.close()
    engine.close()


async def test_a_call_of_a_start_is_slow_after_a_while_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("fallow.infra.clock.mono_s", lambda: now_s)
    patience = Patience()
    with patience.starting("a"):
        now_s += 13.0
        with patience.starting("b"):
            now_s += 1.0
            assert patience.trouble == "", "a busy machine takes as long"
            now_s += 1.5
            assert patience.trouble == "the Docker Engine is slow: a container has been starting for 16 s"
            patience.missed("away")
            assert patience.trouble == "away"
            patience.answered()
            assert "slow" in patience.trouble, "a good ping is no word on it"
    assert patience.trouble == ""
    with pytest.raises(EngineError), patience.starting("a"):
        raise EngineError("given up")
    now_s += 60.0
    assert patience.trouble == ""
