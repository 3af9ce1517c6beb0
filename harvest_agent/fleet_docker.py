"""What a fleet does on a Docker Engine: one tree of cgroups for all its VMs, and no container left behind."""

from __future__ import annotations

from fallow.infra.engine import Engine, EngineError
from fallow.infra.log import get_logger
from fallow.infra.tasks import FatalError
from harvest_agent import host
from harvest_agent.cgroups import CgroupError, HostTree, Kernel, remove_if_empty, vm_cgroup, vm_ids
from harvest_agent.containers import ClusterContainers
from harvest_agent.reaper import REMOVE_TIMEOUT_S

_log = get_logger("harvest_agent.fleet_docker")


class FleetDocker:
    def __init__(self, cluster: str, kernel: Kernel) -> None:
        self._cluster = cluster
        self._kernel = kernel
        self._engine = Engine(threads=4)
        self._containers = ClusterContainers(self._engine, cluster)

    async def encode_root(self, root: str) -> tuple[str, HostTree | None]:
        """As host.encode_root. Raises FatalError where no engine answers."""
        try:
            info = await self._engine.info()
        except EngineError as e:
            raise FatalError(
                f"{e}\nstart the Docker Engine (DOCKER_HOST says where else it is), or use processes"
            ) from None
        try:
            if root.partition(":")[0] == host.NONE or "|" in root:
                return host.encode_root(root, self._kernel)
            tree = host.docker_tree(self._cluster, info, self._kernel)
        except CgroupError as e:
            return f"{host.NONE}:{e}", None
        return tree.encode(), tree

    async def clear(self, vm_id: str, tree: HostTree | None) -> None:
        """Removes what a dead VM left. Bounded in time; what stays is logged."""
        cgroup = None if tree is None else vm_cgroup(tree, vm_id, self._kernel)
        if not await self._containers.remove(vm_id, cgroup, timeout_s=REMOVE_TIMEOUT_S) or cgroup is None:
            return
        try:
            cgroup.remove()
        except CgroupError as e:
            _log.error("the cgroup of a dead VM is left behind", vm=vm_id, error=str(e))

    async def clear_all(self, tree: HostTree | None) -> None:
        """Likewise for every VM that the cluster has here, and then for the tree."""
        found = set() if tree is None else set(vm_ids(tree, self._kernel))
        try:
            found |= await self._containers.holding()
        except EngineError as e:
            _log.error("containers may be left behind", cluster=self._cluster, error=str(e))
        for vm_id in sorted(found):
            await self.clear(vm_id, tree)
        if tree is not None:
            remove_if_empty(tree, self._kernel)

    def close(self) -> None:
        self._engine.close()
