"""How a function container is made: the body of the API's create call, and the names of things. Nothing here acts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fallow.core.value import value
from fallow.infra.engine import CLUSTER_LABEL, KIND_LABEL, VM_LABEL

BLACKBOX = "blackbox"
PORT = 8080  # where every runtime listens, by the action-container protocol
CPU_SHARES_PER_CORE = 1024
MIN_CPU_SHARES = 2  # the kernel's bounds
MAX_CPU_SHARES = 262_144
PIDS_LIMIT = 1024
NOFILE_LIMIT = 1024
LOG_FILE = {"max-size": "1m", "max-file": "1"}  # so that `docker logs` helps; nothing here reads it
OOM_SCORE = 500  # where the host itself runs out of memory, functions go before what serves them
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@value(frozen=True, slots=True, kw_only=True)
class Placement:
    """What all containers of one VM have in common. `cgroup_parent` and `network` "" = the engine's own choice."""

    cluster: str
    vm_id: str
    cgroup_parent: str = ""
    network: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """By which the containers of this VM are found again."""
        return {CLUSTER_LABEL: self.cluster, VM_LABEL: self.vm_id}

    def name(self, number: int) -> str:
        """The name of the VM's container of this number."""
        return _NOT_IN_NAMES.sub("-", f"fallow-{self.cluster}-{self.vm_id}-{number}")


def blackbox_image(kind: str) -> str | None:
    """The image that a kind "blackbox:<image>" names, with its tag; None for a kind of a runtime."""
    head, _, image = kind.partition(":")
    return with_tag(image) if head == BLACKBOX and image else None


def with_tag(image: str) -> str:
    """An image without tag or digest is its tag "latest", as everywhere in Docker."""
    last = image.rpartition("/")[2]  # a colon before it is the port of a registry
    return image if ":" in last or "@" in image else f"{image}:latest"


def cpu_shares(cap_cores: float) -> int:
    """The weight of a container beside the others of its VM. Never a quota: under cgroup v1 the VM's own may not go
    below one of a child."""
    return min(MAX_CPU_SHARES, max(MIN_CPU_SHARES, round(CPU_SHARES_PER_CORE * cap_cores)))


def create_body(
    placement: Placement, *, kind: str, image: str, memory_mb: int, cap_cores: float, env: Mapping[str, str]
) -> dict[str, Any]:
    """The body of POST /containers/create.

    A runtime's own image writes nowhere but to /tmp. A blackbox image keeps its writable layer and its user: images
    made for OpenWhisk expect both.
    """
    memory_bytes = memory_mb << 20
    host: dict[str, Any] = {
        "CpuShares": cpu_shares(cap_cores),
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,  # as much as without swap
        "PidsLimit": PIDS_LIMIT,
        "Ulimits": [{"Name": "nofile", "Soft": NOFILE_LIMIT, "Hard": NOFILE_LIMIT}],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "OomScoreAdj": OOM_SCORE,
        "LogConfig": {"Type": "json-file", "Config": LOG_FILE},
        "RestartPolicy": {"Name": "no"},
    }
    if placement.cgroup_parent:
        host["CgroupParent"] = placement.cgroup_parent
    if placement.network:
        host["NetworkMode"] = placement.network
    if blackbox_image(kind) is None:
        host["ReadonlyRootfs"] = True
        host["Tmpfs"] = {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={memory_mb}m"}  # an action may bring programs
    return {
        "Image": image,
        "Env": [f"{name}={text}" for name, text in env.items()],
        "Labels": {**placement.labels, KIND_LABEL: kind},
        "HostConfig": host,
    }


def without_image_labels(body: Mapping[str, Any], labels: Iterable[str]) -> dict[str, Any]:
    """`body` with the names of its image's own `labels` emptied, those it sets itself apart.

    A container inherits them otherwise, and anyone's image could pose as a service of Compose, or as whatever else
    finds its containers by their labels.
    """
    return {**body, "Labels": {**dict.fromkeys(labels, ""), **body["Labels"]}}
