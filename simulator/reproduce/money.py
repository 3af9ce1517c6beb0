"""What a budget buys: throughput for the price of two regular VMs, and the saving for the same cores."""

from __future__ import annotations

from fallow.core.model import VmKind
from fallow.report.price import DISCOUNTS, Discount, cost_rate
from simulator.clusters import NORMAL
from simulator.paper import points
from simulator.reproduce.frame import GIVE_UP_S, Claim, Context, Made, Panel, highest_rate, order, within, work
from simulator.reproduce.load import DURATION_S, QUICK_DURATION_S
from simulator.sweep import Point

BUDGET_CORES = 32.0  # the price of two regular VMs of 16 cores, in regular cores
NAMES = tuple(DISCOUNTS)
# Multiples of what the two regular VMs would carry at full use: each cluster is tried around its size.
STEPS = (0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
QUICK_STEPS = (0.4, 0.7, 0.9)


def savings(context: Context) -> Made:
    """The same cores, bought as regular VMs and as Harvest VMs: arithmetic of the price model."""
    name = "savings"
    saved = {discount: 1 - _price(NORMAL, DISCOUNTS[discount]) / sum(NORMAL) for discount in NAMES}
    return Made(
        name=name,
        title="Savings for the same cores",
        claims=[
            within(name, "saved at the lowest discount", 0.48, saved["Lowest"], 0.02),
            within(name, "saved at the best discount", 0.89, saved["Best"], 0.02),
        ],
        panels=[
            Panel(
                title="saved for the same 180 cores",
                x="discount",
                labels=NAMES,
                y="share",
                ours={"cluster Normal": list(enumerate(saved.values()))},
                paper={"published": [(0, 0.48), (3, 0.89)]},
            )
        ],
        conditions=("p = 2 (1 - d_evict) + (cores - 2) (1 - d_harvest) a VM, in prices of a regular core",),
    )


def _price(cores: tuple[int, ...] | tuple[float, ...], discount: Discount) -> float:
    return sum(cost_rate(VmKind.HARVEST, float(count), discount) for count in cores)


def _cluster(vms: int, cores: int) -> tuple[float, ...]:
    """So many VMs with so many cores in all, as even as whole cores allow."""
    return tuple(float(cores // vms + (i < cores % vms)) for i in range(vms))


def budget(context: Context) -> Made:
    """The highest rate that each discount's cluster carries, over that of the two regular VMs."""
    name = "budget"
    rows = points("budget")
    clusters = {"regular": (16.0, 16.0)} | {
        row["discount"]: _cluster(int(row["vms"]), int(row["cores"])) for row in rows
    }
    steps = QUICK_STEPS if context.quick else STEPS
    full = {label: sum(cores) / _cpu_s() for label, cores in clusters.items()}  # calls/s if no core ever rested
    wanted = [
        Point(
            policy="mws",
            cluster="cores:" + ",".join(f"{count:g}" for count in cores),
            rate_per_s=step * full[label],
            work=work(),
            give_up_s=GIVE_UP_S,
            duration_s=QUICK_DURATION_S if context.quick else DURATION_S / 2,
            seed=context.seed,
        )
        for label, cores in clusters.items()
        for step in steps
    ]
    found = context.sweep(wanted)
    highest = {
        label: highest_rate([step * full[label] for step in steps], found[i * len(steps) : (i + 1) * len(steps)])
        for i, label in enumerate(clusters)
    }
    times = {label: highest[label] / highest["regular"] if highest["regular"] else None for label in clusters}
    claims: list[Claim] = []
    for row in rows:
        label, cores = row["discount"], clusters[row["discount"]]
        price = _price(cores, DISCOUNTS[label])
        claims.append(within(name, f"{label}: price of {len(cores)} VMs, regular cores", BUDGET_CORES, price, 0.1))
    claims += [
        within(name, f"{label}: throughput for the budget, times", float(row["times_throughput"]), times[label], 0.25)
        for row in rows
        if row["times_throughput"]
        for label in [row["discount"]]
    ]
    claims.append(
        order(
            name,
            "more discount, more throughput: Best over Lowest",
            [highest[n] for n in reversed(NAMES)],
            paper=9.0 / 2.2,
        )
    )
    return Made(
        name=name,
        title="Throughput for the price of two regular 16-core VMs",
        claims=claims,
        panels=[
            Panel(
                title="throughput, times that of two regular VMs",
                x="cores that the budget buys",
                y="times",
                ours={"mws": [(sum(clusters[n]), times[n] or 0.0) for n in NAMES]},
                paper={"published": [(62, 2.2), (312, 9.0)]},
            )
        ],
        conditions=("Harvest VMs of even sizes with so many cores in all; highest rate at P99 <= 50 s under MWS",),
    )


def _cpu_s() -> float:
    from simulator.workloads import mean_cpu_s

    return mean_cpu_s(work())
