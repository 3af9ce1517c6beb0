"""How much more than a limit several controllers admit together: `python -m loadtest.limits_bench`.

Controllers divide a limit without speaking to each other, and each allows a fifth more than its even share, since no
load balancer divides evenly. Measured is what passes of an overload: of calls a minute within one minute of the clock,
of calls at once with calls that do not end meanwhile. `even` deals the calls out in turn, `random` as a balancer by
chance does, `one` sends all to one controller: what is lost where a balancer sticks.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from fallow.core.throttle import OPENWHISK
from loadtest.cluster import START_TIMEOUT_S, BenchError, process

MAX_CONTROLLERS = 3
OFFERED = 200  # calls, of each measurement
ROOM_S = 20.0  # of a minute: so much must be left of it for a measurement to begin
WIDE = 1_000_000
PATTERNS = ("even", "random", "one")
CODE = {
    "quick": "def main(args):\n    return {}\n",
    "slow": "import time\n\n\ndef main(args):\n    time.sleep(60)\n    return {}\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Controllers of one cluster, and a session for each of its two keys."""

    urls: list[str]
    tenant: aiohttp.ClientSession
    operator: aiohttp.ClientSession

    async def allow(self, **limits: int) -> None:
        """Sets the limits of the tenant's namespace; those not named are the defaults."""
        url = f"{self.urls[0]}/admin/v1/limits/guest"
        for method, document in (("DELETE", None), ("PUT", limits)):
            async with self.operator.request(method, url, json=document) as answer:
                answer.raise_for_status()

    async def put(self, name: str) -> None:
        document = {"exec": {"kind": "python:default", "code": CODE[name]}, "limits": {"memory": 128}}
        async with self.tenant.put(f"{self.urls[0]}/api/v1/namespaces/_/actions/{name}", json=document) as answer:
            answer.raise_for_status()

    async def admitted(self, name: str, pattern: str, seed: int) -> int:
        """How many of OFFERED calls, one after the other, pass."""
        passed = 0
        for url in itertools.islice(_targets(self.urls, pattern, seed), OFFERED):
            async with self.tenant.post(f"{url}/api/v1/namespaces/_/actions/{name}") as answer:
                if answer.status not in (202, 429):
                    raise BenchError(f"a call was answered {answer.status}: {await answer.text()}")
                passed += answer.status == 202
        return passed


def _targets(urls: list[str], pattern: str, seed: int) -> Iterator[str]:
    dice = random.Random(seed)
    while True:
        match pattern:
            case "even":
                yield from urls
            case "random":
                yield dice.choice(urls)
            case _:
                yield urls[0]


@asynccontextmanager
async def _cluster(controllers: int) -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="fallow-limits-", dir="/tmp") as state:
        args = ("up", "--port", "0", "--json", "--vms", "0", "--state-dir", state, "--log-level", "warning")
        more = ("--controllers", str(controllers), "--limits", "openwhisk")
        with process("-m", "fallow_cli.main", *args, *more) as up:
            assert up.stdout is not None
            line = await asyncio.to_thread(up.stdout.readline)
            if not line:
                raise BenchError("the cluster did not start; what it said stands above")
            ready = json.loads(line)
            operator_key = (Path(state) / "operator.key").read_text().strip()
            async with _session(ready["key"]) as tenant, _session(operator_key) as operator:
                made = Cluster(urls=ready["urls"], tenant=tenant, operator=operator)
                await _all_know(made)
                yield made


def _session(key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"})


async def _all_know(cluster: Cluster) -> None:
    """Waits until every controller counts all of them."""
    async with asyncio.timeout(START_TIMEOUT_S):
        for url in cluster.urls:
            while True:
                async with cluster.operator.get(f"{url}/admin/v1/status") as answer:
                    if (await answer.json())["controllers"] == len(cluster.urls):
                        break
                await asyncio.sleep(0.1)


async def _measure(controllers: int, seed: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for pattern in PATTERNS if controllers > 1 else PATTERNS[:1]:
        async with _cluster(controllers) as cluster:
            await cluster.put("quick")
            await cluster.put("slow")
            await cluster.allow(concurrent_invocations=WIDE)
            left_s = 60 - time.time() % 60
            if left_s < ROOM_S:
                await asyncio.sleep(left_s)
            minute = time.time() // 60
            a_minute = await cluster.admitted("quick", pattern, seed)
            if time.time() // 60 != minute:
                raise BenchError(f"{OFFERED} calls took longer than {ROOM_S:g} s; this machine is too busy")
            await cluster.allow(invocations_per_minute=WIDE)
            at_once = await cluster.admitted("slow", pattern, seed)
        rows.append({"controllers": controllers, "calls": pattern, "a_minute": a_minute, "at_once": at_once})
    return rows


def _show(row: dict[str, object]) -> str:
    def over(passed: object, limit: int) -> str:
        assert isinstance(passed, int)
        return f"{passed:>4} of {limit} ({passed / limit - 1:+.0%})"

    a_minute = over(row["a_minute"], OPENWHISK.invocations_per_minute)
    at_once = over(row["at_once"], OPENWHISK.concurrent_invocations)
    return f"{row['controllers']:>11}  {row['calls']:<7} {a_minute:>18} {at_once:>18}"


async def _run(options: argparse.Namespace) -> None:
    if not options.json:
        _say(f"{'controllers':>11}  {'calls':<7} {'a minute':>18} {'at once':>18}   of {OFFERED} offered")
    for controllers in range(1, options.controllers + 1):
        for row in await _measure(controllers, options.seed):
            _say(json.dumps(row) if options.json else _show(row))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="limits-bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--controllers", type=int, default=MAX_CONTROLLERS, help="measure 1 to so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON line a measurement")
    try:
        asyncio.run(_run(parser.parse_args(argv)))
    except (BenchError, aiohttp.ClientError, TimeoutError) as e:
        sys.stderr.write(f"limits-bench: {e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
