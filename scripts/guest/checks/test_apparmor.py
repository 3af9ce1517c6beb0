"""A service as compose starts it, on a machine with AppArmor and the systemd driver: what Docker's own profile denies
it, and that without the profile it can do its work."""

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


def service(*options: str) -> str:
    """What it says, with the rights and mounts that compose.yaml gives the service of a VM. Python and the project come
    from the guest's own root file system."""
    mounts = ["/usr:/usr:ro", "/opt:/opt:ro", "/sys/fs/cgroup:/sys/fs/cgroup", "/run/dbus:/run/dbus"]
    mounts.append("/var/run/docker.sock:/var/run/docker.sock")
    volumes = [part for mount in mounts for part in ("-v", mount)]
    rights = ["--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE", "--security-opt", "no-new-privileges:true"]
    command = ["docker", "run", "--rm", *rights, *options, *volumes, os.environ["FALLOW_TEST_IMAGE"]]
    done = subprocess.run(
        [*command, "/opt/venv/bin/python", "-c", SERVICE], capture_output=True, text=True, timeout=300, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    return done.stdout


@pytest.fixture(autouse=True)
def apparmor() -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"


def test_dockers_profile_denies_the_bus_and_the_refusal_names_itself() -> None:
    said = service()
    assert "profile docker-default (enforce)" in said
    assert "refused org.freedesktop.DBus.Error.AccessDenied" in said
    assert "apparmor=unconfined" in said


def test_an_unconfined_service_sets_its_quota() -> None:
    said = service("--security-opt", "apparmor=unconfined")
    assert "profile unconfined" in said
    assert "quota 25000 50000 in " in said
