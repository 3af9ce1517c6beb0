"""The cgroup of a VM: a CPU quota, a CPU counter, a freezer. What a machine offers is found by looking at it.

| | the process backend | Docker, cgroupfs driver | Docker, systemd driver |
|---|---|---|---|
| cgroup version 1 | `tree`, `vm` | `docker`, `vm` | `docker`, `slices` |
| cgroup version 2 | `tree`, `vm` | `docker`, `vm` | `docker`, `slices` |

A machine's VMs live under one *host tree* (a directory in each hierarchy used), made by the fleet or by an agent that
stands alone. Each VM is a directory in it. The host tree itself never has a quota, so no VM's quota can exceed its
parent's.
"""

from harvest_agent.cgroups.docker import make_docker_tree, vm_cgroup
from harvest_agent.cgroups.kernel import CgroupError, Kernel, LinuxKernel, quota_us, remove_below
from harvest_agent.cgroups.removal import remove_host_tree, remove_if_empty, vm_ids
from harvest_agent.cgroups.tree import HostTree, make_host_tree
from harvest_agent.cgroups.vm import VmCgroup

__all__ = [
    "CgroupError",
    "HostTree",
    "Kernel",
    "LinuxKernel",
    "VmCgroup",
    "make_docker_tree",
    "make_host_tree",
    "quota_us",
    "remove_below",
    "remove_host_tree",
    "remove_if_empty",
    "vm_cgroup",
    "vm_ids",
]
