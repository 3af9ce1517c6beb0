"""The stack on a swarm of three machines: nodes that join, drain, lose their power and come back, under load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from swarm.hosts import Hosts, Machine
from swarm.stack import (
    Answer,
    Client,
    Stack,
    client_of,
    load_on,
    make_images,
    new_keys,
    noted,
    quota_cores,
    remove_images,
)

pytestmark = [pytest.mark.system, pytest.mark.docker, pytest.mark.timeout(300)]

LONG_S = 12.0  # longer than a VM that is stopped gives its calls by default
LONG = """
import time
def main(args):
    time.sleep(args["s"])
    return args
"""
ASK = """
import os, urllib.request
def main(args):
    url = os.environ["__OW_API_HOST"]
    return {"asked": url, "answer": urllib.request.urlopen(url + "/ping", timeout=5).status}
"""


@contextlib.asynccontextmanager
async def long_call_on(client: Client) -> AsyncIterator[tuple[str, asyncio.Task[Answer]]]:
    """A harvest VM, and a long call that runs on it. Nothing else runs yet."""
    await client.put("long", LONG)
    async with asyncio.TaskGroup() as group:
        long = group.create_task(client.invoke("long", {"s": LONG_S}))

        async def running() -> str:
            vms = (await client.vms()).values()
            return next((v["id"] for v in vms if v["kind"] == "harvest" and v["running"]), "")

        yield await client.until(running), long


async def lives(client: Client, machine: Machine) -> set[str]:
    """The VMs of a machine that calls may be sent to: one, under the id of its present life, or none."""
    return {vm_id for vm_id in await client.usable() if client.stack.machine(vm_id) is machine}


async def away(client: Client, machine: Machine) -> bool:
    return not await lives(client, machine)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Deployed on two nodes; the third machine is up, and no node yet. This thread stands at their switch."""
    images = make_images()
    with Hosts() as hosts, hosts.network():
        first, second, _ = hosts.start(["host1", "host2", "host3"])
        hosts.load(images)
        remove_images()
        hosts.join([second])
        stack = Stack(hosts, new_keys())
        stack.label(first, "fallow.control=yes")
        stack.label(first, "fallow.vm=regular")
        stack.label(second, "fallow.vm=harvest")
        stack.deploy(ACTIONS_URL=stack.url, STOP_GRACE_S="20", KEEP_ALIVE_S="60")
        yield stack


async def test_labelled_nodes_become_vms_and_run_functions_on_their_own_engines(stack: Stack) -> None:
    async with client_of(stack) as client:

        async def joined() -> bool:
            return await client.usable() == {"host1", "host2"}

        await client.until(joined)
        vms = await client.vms()
        assert {vm["id"]: vm["kind"] for vm in vms.values()} == {"host1": "regular", "host2": "harvest"}
        assert {vm["cpu_note"] for vm in vms.values()} == {""}
        async with load_on(client) as load:
            await load.more(20)
            vm_id = await load.busy_vm("harvest")
            assert vm_id == "host2"
            template = '{{index .Config.Labels "fallow.vm"}} {{.HostConfig.CgroupParent}}'
            assert set(stack.containers(stack.machine("host2"), template)) == {"host2 /fallow_fallow/host2"}


async def test_an_action_reaches_the_api_from_any_node(stack: Stack) -> None:
    async with client_of(stack) as client:
        await client.put("ask", ASK)
        status, body = await client.invoke("ask", {})
        assert (status, body["response"]["result"]) == (200, {"asked": stack.url, "answer": 200})
        assert noted(body, "vmKind") == "harvest", "on another node than the API's"


async def test_a_machine_that_joins_and_is_labelled_becomes_a_vm(stack: Stack) -> None:
    machine = stack.hosts.machines[2]
    async with client_of(stack) as client:
        assert "host3" not in await client.usable()
        stack.hosts.join([machine])
        stack.label(machine, "fallow.vm=harvest")

        async def joined() -> bool:
            return "host3" in await client.usable()

        await client.until(joined)
        assert (await client.vms())["host3"]["kind"] == "harvest"


async def test_an_operator_resizes_and_evicts_a_vm_of_any_node(stack: Stack) -> None:
    async with client_of(stack) as client:
        stack.cli("vm", "resize", "host3", "0.5")

        async def capped() -> bool:
            return quota_cores(stack, "host3") == 0.5

        await client.until(capped)
        stack.cli("vm", "evict", "host3", "--notice", "1s")

        async def back() -> bool:
            return "host3.2" in await client.usable()

        await client.until(back)
        assert "host3" not in await client.usable()


async def test_a_drained_node_ends_its_calls_and_takes_no_more_and_comes_back(stack: Stack) -> None:
    async with client_of(stack) as client, long_call_on(client) as (vm_id, long):
        machine = stack.machine(vm_id)
        async with load_on(client) as load:
            await load.more(10)
            stack.manager.docker("node", "update", "--availability", "drain", machine.name)
            await client.until(lambda: away(client, machine))
            await load.more(20)
        status, body = await long
        assert (status, body["response"]["result"]) == (200, {"s": LONG_S})
        assert (noted(body, "attempt"), noted(body, "vm")) == (1, vm_id), "it ended where it had begun"

        async def emptied() -> bool:
            return not machine.docker("ps", "--quiet") and not stack.containers(machine)

        await client.until(emptied)
        stack.manager.docker("node", "update", "--availability", "active", machine.name)
        await client.until(lambda: lives(client, machine))


async def test_a_node_without_its_label_is_no_vm_any_more(stack: Stack) -> None:
    machine = stack.hosts.machines[2]
    async with client_of(stack) as client:
        assert await lives(client, machine)
        stack.manager.docker("node", "update", "--label-rm", "fallow.vm", machine.name)
        await client.until(lambda: away(client, machine))
        stack.label(machine, "fallow.vm=harvest")
        await client.until(lambda: lives(client, machine))


async def test_a_machine_that_loses_its_power_costs_no_call_and_comes_back_clean(stack: Stack) -> None:
    async with client_of(stack) as client, long_call_on(client) as (vm_id, long):
        machine = stack.machine(vm_id)
        async with load_on(client) as load:
            await load.more(10)
            machine.power_off()
            await client.until(lambda: away(client, machine))
            await load.more(20)
        status, body = await long
        assert (status, body["response"]["result"]) == (200, {"s": LONG_S})
        assert noted(body, "attempt") == 2, "it was cut off, and began again elsewhere"
        assert noted(body, "vm") != vm_id

        machine.power_on()
        (new_id,) = await client.until(lambda: lives(client, machine), within_s=180)
        assert new_id != vm_id, "what the machine's disk still knows of the old one is not taken for the new one's"

        async def clean() -> bool:
            return set(stack.containers(machine, '{{index .Config.Labels "fallow.vm"}}')) <= {new_id}

        await client.until(clean)


async def test_a_removed_stack_leaves_no_function_container(stack: Stack) -> None:
    async with client_of(stack) as client:
        async with load_on(client) as load:
            await load.more(20)
        assert any(stack.containers(machine) for machine in stack.hosts.machines)
        stack.manager.docker("stack", "rm", "fallow")

        async def gone() -> bool:
            return not any(machine.docker("ps", "--all", "--quiet") for machine in stack.hosts.machines)

        await client.until(gone, within_s=90)
