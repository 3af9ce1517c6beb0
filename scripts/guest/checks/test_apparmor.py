"""A service as compose starts it, on a machine with AppArmor and the systemd driver: what a profile denies it, how it
says so, and that without one it can do its work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SERVICE = """
import asyncio
from fallow.infra.engine import Engine
from harvest_agent import host
from harvest_agent.cgroups import CgroupError, LinuxKernel, remove_if_empty, vm_cgroup

async def main():
    print("profile", open("/proc/self/attr/current").read().strip("\\0\\n"))
    kernel = LinuxKernel()
    try:
        tree = host.docker_tree("aa", await Engine().info(), kernel)
        vm = vm_cgroup(tree, "h1", kernel)
        vm.create(0.5)
        print("quota", (vm.dirs[0] / "cpu.max").read_text().strip(), "in", vm.dirs[0])
        vm.remove()
        remove_if_empty(tree, kernel)
    except CgroupError as e:
        print("refused", e)

asyncio.run(main())
"""

BUS = """
from harvest_agent.cgroups import CgroupError
from harvest_agent.cgroups.bus import SystemBus

print("profile", open("/proc/self/attr/current").read().strip("\\0\\n"))
try:
    SystemBus().call("Subscribe", "", ())
    print("answered")
except CgroupError as e:
    print("refused", e)
"""

# Keeps a container from the bus by the means that an unpatched kernel has: no unix socket at all.
NO_BUS = """
profile fallow-no-bus flags=(attach_disconnected,mediate_deleted) {
  network inet,
  network inet6,
  capability,
  file,
  umount,
  signal,
  ptrace,
}
"""
SECURITY = Path("/sys/kernel/security/apparmor")


def service(*options: str, script: str = SERVICE) -> str:
    """What it says, with the rights and mounts that compose.yaml gives the service of a VM. Python and the project come
    from the guest's own root file system."""
    mounts = ["/usr:/usr:ro", "/opt:/opt:ro", "/sys/fs/cgroup:/sys/fs/cgroup", "/run/dbus:/run/dbus"]
    mounts.append("/var/run/docker.sock:/var/run/docker.sock")
    volumes = [part for mount in mounts for part in ("-v", mount)]
    rights = ["--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE", "--security-opt", "no-new-privileges:true"]
    command = ["docker", "run", "--rm", *rights, *options, *volumes, os.environ["TEST_FALLOW_IMAGE"]]
    done = subprocess.run(
        [*command, "/opt/venv/bin/python", "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    return done.stdout


@pytest.fixture(autouse=True)
def apparmor() -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"


def test_dockers_profile_leaves_the_bus_alone_where_the_kernel_does_not_mediate_it() -> None:
    """As Debian's: only kernels with Ubuntu's patches know D-Bus. There Docker's profile, which has no rule for it,
    denies it all."""
    assert not (SECURITY / "features/dbus").exists()
    said = service()
    assert "profile docker-default (enforce)" in said
    assert "quota 25000 50000 in " in said


def test_a_profile_that_denies_the_bus_is_reported_by_name_and_never_as_success(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text(NO_BUS)
    subprocess.run(["apparmor_parser", "--replace", tmp_path / "profile"], check=True, timeout=300)
    said = service("--security-opt", "apparmor=fallow-no-bus", script=BUS)
    assert "profile fallow-no-bus (enforce)" in said
    assert "refused org.freedesktop.DBus.Error.AccessDenied" in said
    assert "apparmor=unconfined" in said
    assert "answered" not in said


def test_an_unconfined_service_sets_its_quota() -> None:
    assert "answered" in service("--security-opt", "apparmor=unconfined", script=BUS)
    said = service("--security-opt", "apparmor=unconfined")
    assert "profile unconfined" in said
    assert "quota 25000 50000 in " in said
