"""What a person sees of the VMs."""

from __future__ import annotations

import pytest

from fallow_cli.vm_table import show_vms

VM = {
    "id": "h1",
    "kind": "harvest",
    "state": "up",
    "cores": 2.0,
    "cpu_used": 0.0,
    "memory_used_mb": 0.0,
    "memory_mb": 512.0,
    "running": 0,
    "queued": 0,
    "warm": 0,
    "notice_left_s": None,
    "cpu_enforced": True,
    "cpu_note": "",
    "healthy": True,
    "health_note": "",
}


def test_why_a_vm_is_unhealthy_stands_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_vms([VM, VM | {"id": "h2", "healthy": False, "health_note": "the Docker Engine did not answer within 2 s"}])
    assert capsys.readouterr().out.splitlines()[-1] == ("h2: unhealthy (the Docker Engine did not answer within 2 s)")
    show_vms([VM])
    assert "unhealthy" not in capsys.readouterr().out
