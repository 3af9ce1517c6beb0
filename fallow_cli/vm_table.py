"""The table of VMs, shared by `fallow status` and `fallow vm list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fallow_cli.output import show_table


def show_vms(vms: Sequence[dict[str, Any]]) -> None:
    show_table(
        ("VM", "KIND", "STATE", "CORES", "CPU", "MEMORY MB", "RUNNING", "QUEUED", "WARM", "NOTICE", "CPU LIMIT"),
        map(_row, vms),
        empty="no VM has joined",
    )
    for note in sorted({vm["cpu_note"] for vm in vms if not vm["cpu_enforced"]}):
        click.echo(f"cpu: not enforced ({note})")
    for vm in vms:
        if not vm["healthy"]:
            click.echo(f"{vm['id']}: unhealthy ({vm['health_note']})")


def _row(vm: dict[str, Any]) -> tuple[str, ...]:
    notice = vm["notice_left_s"]
    return (
        vm["id"],
        vm["kind"],
        vm["state"],
        f"{vm['cores']:g}",
        f"{vm['cpu_used']:.2f}",
        f"{vm['memory_used_mb']:.0f}/{vm['memory_mb']:.0f}",
        str(vm["running"]),
        str(vm["queued"]),
        str(vm["warm"]),
        "-" if notice is None else f"{notice:.1f} s",
        "enforced" if vm["cpu_enforced"] else "not enforced",
    )
