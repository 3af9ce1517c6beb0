"""A VM's cgroup for Docker's containers in each of the four worlds, on fake kernels and a fake systemd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.infra.engine import EngineInfo
from harvest_agent import host
from harvest_agent.cgroup_find import Mount, parse_mounts
from harvest_agent.cgroups import (
    CgroupError,
    HostTree,
    VmCgroup,
    make_docker_tree,
    remove_host_tree,
    remove_if_empty,
    vm_cgroup,
    vm_ids,
)
from harvest_agent.cgroups.slices import SliceCgroup, unit_part, vm_of_slice

from .fake_kernel import FakeKernel
from .fake_systemd import FakeSystemd

ROOT = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd")
V1 = [Mount(version=1, controller=c, path=ROOT / c, root="/") for c in V1_CONTROLLERS]
V2 = [Mount(version=2, controller="", path=ROOT, root="/")]
MOUNTS = {1: V1, 2: V2}

# A service of compose with the host's cgroups bound in, in a cgroup namespace of its own.
SERVICE = """\
82 76 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
83 82 0:29 /../.. /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
88 82 0:34 /../.. /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
91 82 0:37 /../.. /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
92 82 0:38 /../.. /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def engine(driver: str, version: int, *, rootless: bool = False) -> EngineInfo:
    return EngineInfo(cgroup_driver=driver, cgroup_version=version, rootless=rootless, version="20.10")


def kernel_of(version: int) -> FakeKernel:
    return FakeKernel(version, [m.path for m in MOUNTS[version]], controllers="cpu memory pids")


@dataclass
class World:
    """A machine with an engine."""

    kernel: FakeKernel
    systemd: FakeSystemd
    info: EngineInfo
    tree: HostTree

    def vm(self, vm_id: str = "h1") -> VmCgroup:
        return vm_cgroup(self.tree, vm_id, self.kernel, self.systemd)

    def quota(self, vm: VmCgroup) -> str:
        if self.info.cgroup_version == 2:
            return self.kernel.read(vm.dirs[0] / "cpu.max")
        return " ".join(self.kernel.read(vm.dirs[0] / f"cpu.cfs_{name}_us") for name in ("quota", "period"))

    def start_container(self, vm: VmCgroup, pid: str) -> list[Path]:
        """What runc does: directories in every hierarchy, parents too, and a process in each."""
        parent = vm.docker_parent.strip("/")
        if self.info.cgroup_driver == "systemd":
            parent = f"{self.tree.parent}/{parent}"
        made = []
        for mount in MOUNTS[self.info.cgroup_version]:
            path = mount.path
            for name in (*parent.split("/"), "c1"):
                path = path / name
                self.kernel.make(path)
            self.kernel.files[path]["cgroup.procs"] = pid
            made.append(path)
        if self.info.cgroup_version == 1:
            self.kernel.files[vm.dirs[-1]]["pids.current"] = "1"
        return made

    def end_container(self, vm: VmCgroup, made: list[Path]) -> None:
        for path in made:
            del self.kernel.files[path]
        if self.info.cgroup_version == 1:
            self.kernel.files[vm.dirs[-1]]["pids.current"] = "0"


@pytest.fixture(params=["1 cgroupfs", "2 cgroupfs", "1 systemd", "2 systemd"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    version, driver = request.param.split()
    kernel = kernel_of(int(version))
    before = set(kernel.files)
    systemd = FakeSystemd(kernel)
    info = engine(driver, int(version))
    tree = make_docker_tree("c", info, MOUNTS[info.cgroup_version], kernel, systemd)
    yield World(kernel=kernel, systemd=systemd, info=info, tree=tree)
    remove_if_empty(tree, kernel, systemd)
    assert set(kernel.files) == before
    assert systemd.units == {}
    assert (systemd.calls == []) == (driver == "cgroupfs")


def test_a_vm_is_made_capped_resized_and_removed_everywhere(world: World) -> None:
    vm = world.vm()
    vm.create(2.0)
    assert world.quota(vm) == "100000 50000"
    container = world.start_container(vm, "17")
    vm.set_cores(0.02)
    assert world.quota(vm) == "2000 100000"
    vm.set_cores(1e-9)
    assert world.quota(vm) == "1000 1000000"
    assert vm.occupied()
    assert vm.pids() == [17]
    assert vm.memory_mb() == 4.0
    assert vm.cpu_ns() == 0
    with pytest.raises(CgroupError):
        vm.remove()
    world.end_container(vm, container)
    assert not vm.occupied()
    vm.remove()
    vm.remove()  # what is gone is no error


def test_docker_is_told_where_its_engine_looks(world: World) -> None:
    vm = world.vm("h-2.1")
    systemd = world.info.cgroup_driver == "systemd"
    assert vm.docker_parent == ("fallow_c-h_2.1.slice" if systemd else "/fallow_c/h-2.1")
    below = "fallow_c.slice/fallow_c-h_2.1.slice" if systemd else "fallow_c/h-2.1"
    used = ["cpu", "cpuacct", "memory", "freezer", "pids"] if world.info.cgroup_version == 1 else [""]
    assert vm.dirs == [ROOT / name / below for name in used]


def test_processes_of_another_pid_namespace_are_inside_too(world: World) -> None:
    """As a container of its own sees them: version 2 shows zeros, version 1 nothing."""
    vm = world.vm()
    vm.create(1.0)
    container = world.start_container(vm, "0" if world.info.cgroup_version == 2 else "")
    assert vm.pids() == []
    assert vm.occupied()
    world.end_container(vm, container)
    vm.remove()


def test_the_freezer_is_reached(world: World) -> None:
    vm = world.vm()
    vm.create(1.0)
    assert vm.freeze(True)
    name, frozen = ("cgroup.freeze", "1") if world.info.cgroup_version == 2 else ("freezer.state", "FROZEN")
    path = next(d for d in vm.dirs if world.kernel.exists(d / name)) / name
    assert world.kernel.read(path) == frozen
    world.vm().create(1.0)  # the agent after one that died: what it left frozen is released
    assert world.kernel.read(path) != frozen
    vm.remove()


def test_only_version_2_kills_by_itself(world: World) -> None:
    vm = world.vm()
    vm.create(1.0)
    container = world.start_container(vm, "17")
    assert vm.kill() == (world.info.cgroup_version == 2)
    assert vm.occupied() == (world.info.cgroup_version == 1)
    world.end_container(vm, container)
    vm.remove()


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_a_hybrid_machine_kills_by_version_2(driver: str) -> None:
    kernel = kernel_of(1)
    systemd = FakeSystemd(kernel)
    unified = Mount(version=2, controller="", path=ROOT / "unified", root="/")
    tree = make_docker_tree("c", engine(driver, 1), [unified, *V1], kernel, systemd)
    vm = vm_cgroup(tree, "h1", kernel, systemd)
    vm.create(1.0)
    assert not vm.kill()  # no container came yet, so its directory is not there
    place = unified.path / vm.dirs[0].relative_to(ROOT / "cpu")
    kernel.files[place] = {"cgroup.kill": "", "cgroup.procs": "17"}
    assert vm.kill()
    assert kernel.read(place / "cgroup.procs") == ""
    assert place not in vm.dirs  # there is no quota
    vm.remove()
    assert place not in kernel.files


def test_a_tree_is_shared_and_goes_with_its_last_vm(world: World) -> None:
    again = make_docker_tree("c", world.info, MOUNTS[world.info.cgroup_version], world.kernel, world.systemd)
    assert again == world.tree
    assert HostTree.decode(world.tree.encode()) == world.tree
    one, other = world.vm("h1"), world.vm("h-2")
    one.create(1.0)
    other.create(0.5)
    assert vm_ids(world.tree, world.kernel) == ["h-2", "h1"]
    one.remove()
    remove_if_empty(world.tree, world.kernel, world.systemd)
    assert world.quota(other) == "25000 50000"
    other.remove()


def test_a_whole_tree_is_removed_with_the_vms_that_are_empty(world: World) -> None:
    vm = world.vm()
    vm.create(1.0)
    container = world.start_container(vm, "17")
    if world.info.cgroup_version == 1:
        world.kernel.files[world.tree.dirs["pids"]]["pids.current"] = "1"
    with pytest.raises(CgroupError, match=r"busy|inside"):
        remove_host_tree(world.tree, world.kernel, world.systemd)
    world.end_container(vm, container)
    if world.info.cgroup_version == 1:
        world.kernel.files[world.tree.dirs["pids"]]["pids.current"] = "0"
    remove_host_tree(world.tree, world.kernel, world.systemd)


def test_controllers_may_be_mounted_together() -> None:
    together = [Mount(version=1, controller=c, path=ROOT / "cpu", root="/") for c in ("cpu", "cpuacct")]
    kernel = FakeKernel(1, [ROOT / "cpu"])
    tree = make_docker_tree("c", engine("cgroupfs", 1), together, kernel)
    vm = vm_cgroup(tree, "h1", kernel)
    vm.create(1.0)
    assert vm.dirs == [ROOT / "cpu/fallow_c/h1"]
    assert vm.memory_mb() is None  # the processes' own are summed then
    assert not vm.freeze(True)
    vm.remove()
    remove_if_empty(tree, kernel)
    assert set(kernel.files) == {ROOT / "cpu"}


def test_version_2_passes_on_what_docker_needs() -> None:
    kernel = kernel_of(2)
    tree = make_docker_tree("c", engine("cgroupfs", 2), V2, kernel)
    for path in (ROOT, *tree.paths):
        assert kernel.read(path / "cgroup.subtree_control") == "cpu memory pids"


def test_version_1_counts_the_memory_below() -> None:
    kernel = kernel_of(1)
    make_docker_tree("c", engine("cgroupfs", 1), V1, kernel)
    assert kernel.read(ROOT / "memory/fallow_c/memory.use_hierarchy") == "1"


def test_a_service_sees_the_root_through_a_bind() -> None:
    """Names tell nothing there (`/../..`): the files that only a root has do."""
    mounts = parse_mounts(SERVICE)
    kernel = FakeKernel(1, [m.path for m in mounts if m.version == 1])
    tree = make_docker_tree("c", engine("cgroupfs", 1), mounts, kernel)
    assert tree.dirs["cpu"] == ROOT / "cpu/fallow_c"
    assert tree.dirs["name=systemd"] == ROOT / "systemd/fallow_c"
    assert tree.dirs[""] == ROOT / "unified/fallow_c"


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_own_part_of_the_cgroups_will_not_do(version: int) -> None:
    """Docker would put its containers elsewhere, without a quota. An engine in the same container would not."""
    kernel = kernel_of(version)
    for files in kernel.files.values():
        files.pop("release_agent", None)
        files["cgroup.type"] = "domain"
    with pytest.raises(CgroupError, match=r"bind the host's /sys/fs/cgroup"):
        make_docker_tree("c", engine("cgroupfs", version), MOUNTS[version], kernel)
    tree = make_docker_tree("c", engine("cgroupfs", version), MOUNTS[version], kernel, beside=True)
    assert all(kernel.exists(vm_cgroup(tree, "h1", kernel).dirs[0].parent) for _ in tree.paths)


@pytest.mark.parametrize(
    ("info", "mounts", "why"),
    [
        (engine("cgroupfs", 2, rootless=True), V2, "rootless"),
        (engine("none", 2), V2, "cgroup driver is 'none'"),
        (engine("cgroupfs", 2), V1, "no cgroup file system of version 2"),
        (engine("systemd", 1), V2, "no cgroup file system of version 1"),
        (engine("cgroupfs", 1), [], "no cgroup file system of version 1"),
    ],
)
def test_what_cannot_be_enforced_is_said(info: EngineInfo, mounts: list[Mount], why: str) -> None:
    kernel = kernel_of(mounts[0].version if mounts else 1)
    with pytest.raises(CgroupError, match=why):
        make_docker_tree("c", info, mounts, kernel, FakeSystemd(kernel))


@pytest.mark.parametrize("cluster", ["", "a/b", "..", "a b", "-a", "a|b"])
def test_a_cluster_is_a_plain_name(cluster: str) -> None:
    with pytest.raises(CgroupError, match="not a name for a cgroup"):
        make_docker_tree(cluster, engine("cgroupfs", 2), V2, kernel_of(2))


@pytest.mark.parametrize("version", [1, 2])
def test_a_mount_that_is_read_only_is_said_and_nothing_left(version: int) -> None:
    kernel = kernel_of(version)
    before = set(kernel.files)
    name = "fallow_c" if version == 2 else "pids/fallow_c"
    kernel.refuse = {ROOT / name}
    with pytest.raises(CgroupError, match=f"{name}: Permission denied"):
        make_docker_tree("c", engine("cgroupfs", version), MOUNTS[version], kernel)
    assert set(kernel.files) == before


@pytest.mark.parametrize("version", [1, 2])
def test_a_refused_bus_is_reported_by_name(version: int) -> None:
    kernel = kernel_of(version)
    denied = "org.freedesktop.DBus.Error.AccessDenied"
    with pytest.raises(CgroupError, match=rf"{denied}: StartTransientUnit was refused.*apparmor=unconfined"):
        make_docker_tree("c", engine("systemd", version), MOUNTS[version], kernel, FakeSystemd(kernel, refuse=denied))
    systemd = FakeSystemd(kernel)
    tree = make_docker_tree("c", engine("systemd", version), MOUNTS[version], kernel, systemd)
    vm = vm_cgroup(tree, "h1", kernel, systemd)
    vm.create(1.0)
    systemd.refuse = denied
    with pytest.raises(CgroupError, match=denied):
        vm.set_cores(2.0)


@pytest.mark.parametrize("version", [1, 2])
def test_a_quota_that_systemd_did_not_write_is_no_success(version: int) -> None:
    kernel = kernel_of(version)
    systemd = FakeSystemd(kernel, deaf=True)
    tree = make_docker_tree("c", engine("systemd", version), MOUNTS[version], kernel, systemd)
    vm = SliceCgroup(tree, "h1", kernel, systemd, patience_s=0.0)
    with pytest.raises(CgroupError, match=r"fallow_c-h1.slice.*systemd was told .* the kernel keeps"):
        vm.create(2.0)
    assert vm.docker_parent not in systemd.units  # nothing half made is left


@given(st.text("ab-_.", min_size=1, max_size=8), st.text("ab-_.", min_size=1, max_size=8))
def test_no_two_vms_share_a_slice(one: str, other: str) -> None:
    assert (unit_part(one) == unit_part(other)) == (one == other)
    assert "-" not in unit_part(one)
    assert vm_of_slice(f"fallow_c-{unit_part(one)}.slice") == one
    assert vm_of_slice("docker-abc.scope") == ""


async def test_a_fleet_clears_what_a_dead_one_left(world: World) -> None:
    for vm_id in ("h1", "h2"):
        world.vm(vm_id).create(1.0)
    world.vm("h2").freeze(True)
    await host.clear_tree(world.tree, world.kernel, timeout_s=1.0, bus=world.systemd)
    assert vm_ids(world.tree, world.kernel) == []
