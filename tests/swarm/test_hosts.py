"""The emulated machines: apart, in reach of each other, and gone without a trace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from swarm.hosts import HostError, Hosts

pytestmark = [pytest.mark.system, pytest.mark.docker]


def traces(tag: str) -> list[Path]:
    """What is left of the machines with this tag on this host."""
    return [*Path("/var/tmp").glob(tag), *Path("/sys/fs/cgroup").glob(f"*/{tag}")]


def test_machines_are_swarm_nodes_of_their_own_and_leave_nothing() -> None:
    with Hosts() as hosts:
        first, second = hosts.start(["first", "second"])
        hosts.join()
        identities = {m.docker("info", "--format", "{{.Name}} {{.ID}} {{.Swarm.NodeAddr}}") for m in hosts.machines}
        assert len({text.split()[1] for text in identities}) == 2
        assert {text.split()[0] for text in identities} == {"first", "second"}
        assert {text.split()[2] for text in identities} == {first.address, second.address}
        nodes = first.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines()
        assert sorted(nodes) == ["first Ready", "second Ready"]
        pid = second.pid
        assert len(traces(hosts.tag)) > 1
    assert traces(hosts.tag) == []
    assert not Path(f"/proc/{pid}").exists()


def test_a_machine_without_power_is_gone_and_comes_back_as_itself() -> None:
    with Hosts() as hosts:
        (machine,) = hosts.start(["only"])
        identity = machine.docker("info", "--format", "{{.ID}}")
        machine.docker("volume", "create", "kept")
        pid = machine.pid
        machine.power_off()
        assert not Path(f"/proc/{pid}").exists()
        with pytest.raises(HostError, match="only is off"):
            machine.docker("version")
        machine.power_on()
        assert machine.docker("info", "--format", "{{.ID}}") == identity
        assert machine.docker("volume", "ls", "--quiet") == "kept"


def test_a_cable_that_is_not_gone_yet_does_not_keep_a_machine_off() -> None:
    with Hosts() as hosts:
        stale = hosts.at_switch("ip", "link", "add", "to-only", "type", "veth", "peer", "name", "old")
        subprocess.run(stale, check=True)
        (machine,) = hosts.start(["only"])
        assert machine.docker("info", "--format", "{{.Name}}") == "only"


def test_a_machine_that_gets_no_cable_says_so_and_leaves_nothing() -> None:
    with Hosts() as hosts, pytest.raises(HostError, match="no cable to a-name-too-long-for-a-card"):
        hosts.start(["a-name-too-long-for-a-card"])
    assert traces(hosts.tag) == []
