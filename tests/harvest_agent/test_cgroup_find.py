"""What a process can tell from the cgroups it sees itself in."""

from __future__ import annotations

import pytest

from harvest_agent.cgroup_find import in_engines_namespace, parse_own

ID = "d48885c30534c5d78f044a5fecd266307ee68bd0276850f72dbc201480c9bc62"


@pytest.mark.parametrize(
    ("seen", "shared"),
    [
        (f"8:pids:/docker/{ID}\n1:cpu:/docker/{ID}\n0::/\n", True),
        (f"0::/system.slice/docker-{ID}.scope\n", True),
        (f"1:cpu:/fallow_c/h1/{ID}\n", True),
        ("8:pids:/\n1:cpu:/\n0::/\n", False),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", False),
        (f"0::/docker/{ID}/inner\n", False),
    ],
    ids=["cgroupfs", "systemd", "a parent of its own", "private", "no container", "moved further down"],
)
def test_a_container_that_sees_its_id_shares_the_engines_cgroup_namespace(seen: str, shared: bool) -> None:
    assert in_engines_namespace(parse_own(seen)) is shared
