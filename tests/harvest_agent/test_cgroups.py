from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harvest_agent import host
from harvest_agent.cgroup_find import Mount, parse_mounts, parse_own, relative_path
from harvest_agent.cgroups import (
    CgroupError,
    HostTree,
    Kernel,
    LinuxKernel,
    VmCgroup,
    make_host_tree,
    quota_us,
    remove_host_tree,
)

from .fake_kernel import FakeKernel

V2_ROOT = Path("/sys/fs/cgroup")
V2 = [Mount(version=2, controller="", path=V2_ROOT, root="/")]
V1 = [
    Mount(version=1, controller=c, path=V2_ROOT / c, root="/") for c in ("memory", "cpu", "cpuacct", "freezer", "pids")
]

UBUNTU_V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
DOCKER_V1 = """\
729 728 0:24 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
731 729 0:30 /docker/4f3a /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev - cgroup cgroup rw,cpu,cpuacct
732 729 0:31 /docker/4f3a /sys/fs/cgroup/my\\040freezer ro,nosuid - cgroup cgroup rw,freezer
733 729 0:32 /docker/4f3a /sys/fs/cgroup/systemd ro,nosuid - cgroup cgroup rw,xattr,name=systemd
"""


@dataclass
class Bench:
    """One host tree on one kernel; the contract tests run over each."""

    kernel: Kernel
    tree: HostTree


@pytest.fixture(params=["fake v1", "fake v2", "this machine"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "fake v1":
        kernel: Kernel = FakeKernel(1, [m.path for m in V1 if m.controller in ("cpu", "cpuacct", "freezer")])
        tree = make_host_tree(V1, {}, "fallow-t", kernel)
    elif request.param == "fake v2":
        kernel = FakeKernel(2, [V2_ROOT])
        tree = make_host_tree(V2, {"": "/"}, "fallow-t", kernel)
    else:
        kernel = LinuxKernel()
        try:
            tree, _ = host.tree_of("auto", kernel)
        except CgroupError:  # an ordinary user: nothing may be written here
            kernel = FakeKernel(2, [V2_ROOT])
            tree = make_host_tree(V2, {"": "/"}, "fallow-t", kernel)
    yield Bench(kernel=kernel, tree=tree)
    remove_host_tree(tree, kernel)
    assert not any(kernel.exists(path) for path in tree.paths)


def test_a_vm_is_made_capped_resized_and_removed(bench: Bench) -> None:
    vm = VmCgroup(bench.tree, "h1", bench.kernel)
    vm.create(2.0)
    assert all(bench.kernel.exists(d) for d in vm.dirs)
    assert all(bench.kernel.exists(d / "cgroup.procs") for d in vm.dirs)
    assert written(bench, vm) == "100000 50000"
    vm.set_cores(0.02)
    assert written(bench, vm) == "2000 100000"
    assert vm.pids() == []
    assert vm.cpu_ns() == 0
    assert vm.freeze(True)
    assert vm.freeze(False)
    vm.remove()
    assert not any(bench.kernel.exists(d) for d in vm.dirs)
    vm.remove()  # what is gone is no error


def written(bench: Bench, vm: VmCgroup) -> str:
    cpu = vm.dirs[0]
    if vm.version == 2:
        return bench.kernel.read(cpu / "cpu.max").strip()
    quota, period = (bench.kernel.read(cpu / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return f"{quota} {period}"


def test_a_quota_that_the_kernel_did_not_keep_is_an_error() -> None:
    class Deaf(FakeKernel):
        def write(self, path: Path, text: str) -> None:
            if path.name != "cpu.max":
                super().write(path, text)

    kernel = Deaf(2, [V2_ROOT])
    vm = VmCgroup(make_host_tree(V2, {}, "t", kernel), "h1", kernel)
    with pytest.raises(CgroupError, match="wrote '100000 50000', the kernel keeps 'max 100000'"):
        vm.create(2.0)
    assert V2_ROOT / "t/h1" not in kernel.files  # nothing half made is left


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (16.0, (800_000, 50_000)),
        (0.1, (5_000, 50_000)),
        (0.05, (5_000, 100_000)),
        (0.002, (2_000, 1_000_000)),
        (1e-6, (1_000, 1_000_000)),
    ],
)
def test_quota(cores: float, expected: tuple[int, int]) -> None:
    assert quota_us(cores) == expected


def test_version_2_passes_the_controller_on_level_by_level() -> None:
    kernel = FakeKernel(2, [V2_ROOT])
    tree = make_host_tree(V2, {}, "t", kernel)
    assert kernel.files[V2_ROOT]["cgroup.subtree_control"] == "cpu"
    assert kernel.files[V2_ROOT / "t"]["cgroup.subtree_control"] == "cpu"
    VmCgroup(tree, "h1", kernel).create(1.0)
    assert kernel.files[V2_ROOT / "t/h1"]["cgroup.subtree_control"] == ""  # a leaf: processes may enter
    kernel.write(V2_ROOT / "t/h1/cgroup.procs", "17")


def test_a_scope_of_our_own_is_emptied_into_a_leaf() -> None:
    kernel = FakeKernel(2, [V2_ROOT], controllers="cpu")
    scope = V2_ROOT / "run-1.scope"
    kernel.write(V2_ROOT / "cgroup.subtree_control", "+cpu")
    kernel.make(scope)
    kernel.write(scope / "cgroup.procs", "41")
    kernel.write(scope / "cgroup.procs", "42")
    kernel.refuse = {V2_ROOT / "t", V2_ROOT / "cgroup.subtree_control"}
    with pytest.raises(CgroupError, match="busy"):
        make_host_tree(V2, {"": "/run-1.scope"}, "t", kernel)
    tree = make_host_tree(V2, {"": "/run-1.scope"}, "t", kernel, in_scope=True)
    assert tree.paths == [scope / "t"]
    assert kernel.read(scope / "host/cgroup.procs") == "41 42"


def test_where_nothing_may_be_written_every_reason_is_said() -> None:
    kernel = FakeKernel(1, [V2_ROOT / c for c in ("cpu", "cpuacct", "freezer")])
    kernel.refuse = {V2_ROOT / "cpuacct/t"}
    with pytest.raises(CgroupError, match=r"cpuacct/t: Permission denied"):
        make_host_tree(V1, {}, "t", kernel)
    assert set(kernel.files) == {V2_ROOT / c for c in ("cpu", "cpuacct", "freezer")}  # what was made is taken back
    with pytest.raises(CgroupError, match="no cgroup file system"):
        make_host_tree([], {}, "t", kernel)
    bare = FakeKernel(2, [V2_ROOT], controllers="hugetlb")
    with pytest.raises(CgroupError, match="cpu controller is not available"):
        make_host_tree(V2, {}, "t", bare)
    with pytest.raises(CgroupError, match="switched off"):
        host.tree_of("none", LinuxKernel())


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    assert parse_mounts(UBUNTU_V2) == V2
    found = {m.controller: m for m in parse_mounts(DOCKER_V1)}
    assert list(found) == ["cpu", "cpuacct", "freezer", "name=systemd"]
    assert found["freezer"].path == Path("/sys/fs/cgroup/my freezer")
    assert relative_path(found["cpu"], "/docker/4f3a") == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert relative_path(found["cpu"], "/docker/4f3a/a") == Path("/sys/fs/cgroup/cpu,cpuacct/a")
    assert relative_path(V2[0], "/user.slice/x") == V2_ROOT / "user.slice/x"
    assert relative_path(V2[0], "/../x") == V2_ROOT
    own = parse_own("4:memory:/a\n2:cpu,cpuacct:/b:c\n1:name=systemd:/\n0::/user.slice\n")
    assert own == {"memory": "/a", "cpu": "/b:c", "cpuacct": "/b:c", "name=systemd": "/", "": "/user.slice"}


def test_cpu_and_cpuacct_on_one_mount_are_one_directory() -> None:
    mounts = [Mount(version=1, controller=c, path=V2_ROOT / "cpu", root="/") for c in ("cpu", "cpuacct")]
    kernel = FakeKernel(1, [V2_ROOT / "cpu"])
    tree = make_host_tree(mounts, {}, "t", kernel)
    vm = VmCgroup(tree, "h1", kernel)
    vm.create(1.0)
    assert vm.dirs == [V2_ROOT / "cpu/t/h1"]
    assert not vm.freeze(True)  # there is none here
    vm.remove()


def test_a_tree_survives_its_encoding() -> None:
    tree = HostTree(version=1, dirs={"cpu": Path("/c/cpu,cpuacct/f"), "freezer": Path("/c/freezer/f")})
    assert HostTree.decode(tree.encode()) == tree
    with pytest.raises(ValueError, match="not a cgroup tree"):
        HostTree.decode("v3|cpu=/x")


def waiting_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


async def test_what_is_inside_is_found_and_ended(bench: Bench) -> None:
    if isinstance(bench.kernel, FakeKernel):
        vm = VmCgroup(bench.tree, "h1", bench.kernel)
        vm.create(1.0)
        bench.kernel.files[vm.dirs[0]]["cgroup.procs"] = "12 7"
        assert vm.pids() == [7, 12]
        with pytest.raises(CgroupError, match="busy"):
            vm.remove()
        bench.kernel.files[vm.dirs[0]]["cgroup.procs"] = ""
        vm.remove()
        return
    vm = VmCgroup(bench.tree, "h1", bench.kernel)
    vm.create(1.0)
    with waiting_process() as process:
        for path in vm.dirs:
            bench.kernel.write(path / "cgroup.procs", str(process.pid))
        assert vm.pids() == [process.pid]
        with pytest.raises(CgroupError, match="busy"):
            vm.remove()
        assert await host.empty(vm, timeout_s=20)
        assert process.wait() == -9
    vm.remove()
