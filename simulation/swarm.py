"""Drawing a plan from a seed: each seed has a mix of its own, with much of it left out.

Whole families of fault are off in most seeds (Groce et al., "Swarm testing", ISSTA 2012): a
run in which everything goes wrong at once never gets far enough to go wrong in one way
often. Every part of a plan is drawn from a stream of its own, named after it, so that
another draw in one shifts no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import accumulate
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from simulation.faults import FAMILIES, NOISE
from simulation.kernel import MS_US, SECOND_US
from simulation.plan import REACHED, Fault, Noise, Plan, Step, Times
from simulation.workload import (
    CREATE,
    DELETE,
    DELETE_SEEN,
    LIST,
    READ,
    READ_ONE,
    SWAP,
    UPDATE,
    WRITE,
    WRITE_ONE,
)

SHARE_OF_SEEDS = {  # in which a family of fault takes part
    "operator": 0.6,
    "wipe": 0.3,
    "crash": 0.5,
    "pause": 0.3,
    "cut": 0.4,
    "disk": 0.3,
    "kill": 0.4,
    "lose": 0.25,
    "stop": 0.25,
    "clock": 0.3,
    "contest": 0.3,
    NOISE: 0.6,
}
TRAPPED = {"kill", "kill manager", "crash", "fail", "wipe", "lose disk", "isolate"}
REACHING = {"operator", "wipe", "crash", "cut"}  # may choose whom a Put has reached
BURST_US = 20_000  # how far apart the faults of a burst are
ALL_FAMILIES = (*FAMILIES, NOISE)
DRAWN_APART = (NOISE, "contest")  # not fault by fault
Drawn = list[tuple[int, str, int, int]]  # at, kind, node, amount


class Mix(Struct, frozen=True):
    """What the caller fixes; the seed draws the rest. `families`: those that may occur."""

    protocol: str = "primary-backup"
    nodes: int | None = None
    families: tuple[str, ...] | None = None
    scale: float = 1.0  # of the number of operations


def draw_plan(seed: int, mix: Mix = Mix()) -> Plan:  # noqa: B008  (it is frozen)
    """The plan of a seed."""
    shape = _stream(seed, "shape")
    nodes = mix.nodes or shape.choice((1, 2, 3, 3, 3, 4, 5))
    factor = shape.randint(1, min(nodes, 3)) if shape.random() < 0.3 else min(nodes, 3)
    if nodes > 2 and shape.random() < 0.5:
        factor = 2
    times = _draw_times(_stream(seed, "times"))
    steps = _draw_steps(_stream(seed, "workload"), mix.scale)
    span = span_of(steps, times)
    families = draw_families(seed, mix.families)
    noise = Noise()
    if NOISE in families:
        noise = _draw_noise(_stream(seed, "noise"))
    faults = _draw_faults(seed, nodes, span, families)
    if "contest" in families:
        allowed = mix.families or ALL_FAMILIES
        contests = _draw_contests(seed, nodes, span, allowed, times.patience)
        contested = _numbered(contests, len(faults) + 1)
        faults = tuple(sorted((*faults, *contested), key=lambda fault: fault.at_us))
    return Plan(
        seed,
        nodes,
        factor,
        steps,
        faults,
        noise,
        times=times,
        protocol=mix.protocol,
        min_in_sync=2 if factor > 1 and shape.random() < 0.15 else 1,
        copy_batch=shape.choice((1, 1, 2, 256)),
    )


def span_of(steps: Collection[Step], times: Times) -> int:
    """About how long clients take for all of their steps, in microseconds."""
    each = 2 * times.message[1] + times.flush[1]
    spent: Counter[int] = Counter()
    for step in steps:
        spent[step.client] += step.think_us + each
    return max(spent.values(), default=0)


def draw_families(seed: int, allowed: Collection[str] | None = None) -> set[str]:
    """The families of fault that take part in a seed."""
    return {
        family
        for family in ALL_FAMILIES
        if _stream(seed, f"family {family}").random() < SHARE_OF_SEEDS[family]
        and (allowed is None or family in allowed)
    }


def _stream(seed: int, name: str) -> Random:
    return Random(f"{seed} {name}")


def _draw_times(draw: Random) -> Times:
    slowest = draw.choice((500, 2_000, 10_000))
    flush = draw.choice(((0, 0), (50, 300), (100, 1_500), (1_000, 20_000)))
    return Times(
        message=(slowest // 10, slowest),
        flush=flush,
        patience=(2 * slowest + flush[1]) * draw.choice((3, 6, 30)),
        client=draw.choice((100 * MS_US, 2 * SECOND_US, 10 * SECOND_US)),
        upkeep=draw.choice((50, 500, 2_000)) * MS_US,
        restart=draw.choice((0, 2_000, 20_000)),
        grace=draw.choice((0, 100, 1_000)) * MS_US,
    )


def _draw_noise(draw: Random) -> Noise:
    rate = draw.choice((0.005, 0.02, 0.1))
    return Noise(
        *(rate * draw.random() if draw.random() < 0.6 else 0.0 for _ in range(5))
    )


def _draw_steps(draw: Random, scale: float) -> tuple[Step, ...]:
    clients = draw.choice((1, 2, 4, 4, 8))
    keys = [f"key-{n}" for n in range(draw.choice((1, 2, 3, 5, 10, 30, 30)))]
    weights = _draw_weights(draw)
    actions, sums = list(weights), list(accumulate(weights.values()))
    think = draw.choice((1, 2_000, 20_000, 100_000))
    ttl = draw.random() < 0.2
    count = int(draw.choice((30, 60, 120)) * scale)
    steps = []
    for number in range(1, count + 1):
        action = draw.choices(actions, cum_weights=sums)[0]
        pause = int(draw.expovariate(1 / think)) + 1
        if draw.random() < 0.02:
            pause += 20 * think  # now and then everything rests
        lasting = draw.choice((5, 50, 500)) if ttl and draw.random() < 0.3 else 0
        steps.append(
            Step(number, draw.randrange(clients), action, draw.choice(keys), pause, lasting)
        )  # fmt: skip
    return tuple(steps)


def _draw_weights(draw: Random) -> dict[str, float]:
    weights = {READ: 4.0, WRITE: 3.0}
    for action, usual in (
        (DELETE, 1.0), (SWAP, 1.0), (CREATE, 0.5), (UPDATE, 0.5), (DELETE_SEEN, 0.3),
        (LIST, 0.3),
    ):  # fmt: skip
        if draw.random() < 0.6:
            weights[action] = usual * draw.choice(
                (0.3, 1, 3) if action != LIST else (1, 10)
            )
    if draw.random() < 0.15:
        weights[WRITE_ONE] = weights[READ_ONE] = 1.0
    return weights


def _draw_faults(
    seed: int, nodes: int, span_us: int, families: set[str]
) -> tuple[Fault, ...]:
    """Faults over the time that clients take, most of them put right after a while.

    In many seeds most faults come at a few moments: what goes wrong while something else
    is being put right is what a store gets wrong.
    """
    moments = _stream(seed, "moments")
    bursts = [moments.randrange(span_us) for _ in range(moments.choice((1, 2, 4)))]
    share = moments.choice((0.0, 0.5, 0.9))
    found: Drawn = []
    for family in ALL_FAMILIES:
        if family in families and family not in DRAWN_APART:
            draw = _stream(seed, f"faults {family}")
            for _ in range(draw.choice((1, 2, 4, 8))):
                at = draw.randrange(span_us)
                if draw.random() < share:
                    at = draw.choice(bursts) + int(draw.expovariate(1) * BURST_US)
                found += _draw_fault(draw, family, nodes, at, span_us)
    return tuple(
        replace(fault, after_puts=_draw_trap(seed, fault))
        for fault in _numbered(found, 1)
    )


def _numbered(drawn: Drawn, first: int) -> tuple[Fault, ...]:
    """The faults in the order of their times."""
    return tuple(
        Fault(number, at, kind, node, amount)
        for number, (at, kind, node, amount) in enumerate(sorted(drawn), first)
    )


def _draw_trap(seed: int, fault: Fault) -> int:
    """How many Puts a fault waits for, from a stream of its own: none shifts another."""
    if fault.kind not in TRAPPED:
        return 0
    puts = (1, 1, 2) if fault.node == REACHED else (0, 0, 0, 1, 2)
    return _stream(seed, f"trap {fault.kind} {fault.at_us}").choice(puts)


def _draw_fault(draw: Random, family: str, nodes: int, at: int, span_us: int) -> Drawn:
    """One fault, and what puts it right."""
    node = draw.randrange(nodes)
    if draw.random() < 0.25 and family in REACHING:
        node = REACHED
    later = at + int(draw.expovariate(1) * draw.choice((2_000, 20_000, span_us / 8)))
    if family == "operator":
        return [(at, "fail", node, 0), *_again(draw, "recover", node, later)]
    if family == "wipe":
        return [(at, "wipe", node, 0), *_again(draw, "recover", node, later)]
    pairs = {"crash": ("crash", "restart"), "pause": ("pause", "resume")}
    if family in pairs:
        first, second = pairs[family]
        return [(at, first, node, 0), (later, second, node, 0)]
    if family == "cut":
        ways = draw.choice((1, 2, 3, 3))
        return [(at, "isolate", node, ways), (later, "reconnect", node, 0)]
    if family == "disk":
        kind = draw.choice(("disk full", "disk fails", "flush fails"))
        mended = [
            (later, "mend", node, 0),
            *_again(draw, "recover", node, later + 1_000),
        ]
        return [(at, kind, node, 0), *mended]
    if family == "clock":
        amount = draw.choice((-3_600_000, -5_000, -50, 50, 5_000, 3_600_000))
        return [(at, "clock", node, amount)]
    if family == "lose":
        return [(at, "lose disk", node, draw.choice((0, 0, 50, 90)))]
    kinds = {"kill": ("kill", "kill manager"), "stop": ("stop",)}
    return [(at, draw.choice(kinds[family]), node, 0)]


def _draw_contests(
    seed: int, nodes: int, span_us: int, allowed: Collection[str], patience_us: int
) -> Drawn:
    draw = _stream(seed, "faults contest")
    found: Drawn = []
    for _ in range(draw.choice((1, 2, 4))):
        at = draw.randrange(span_us)
        found += _draw_contest(draw, nodes, at, allowed, patience_us)
    return found


def _draw_contest(
    draw: Random, nodes: int, at: int, allowed: Collection[str], patience_us: int
) -> Drawn:
    """Operators who want different things of a node while one of them is not answered yet.

    That it failed is slow to be remembered. Meanwhile others recover it, let it be the last
    copy of what is written, and fail it again.
    """
    node, slow = draw.randrange(nodes), draw.randrange(nodes)
    found = [(at, "late record", slow, int(patience_us * draw.choice((0.3, 1, 3))))]

    def later(earliest: float, latest: float) -> int:
        return at + 1 + int(patience_us * draw.uniform(earliest, latest))

    if "wipe" in allowed:
        found.append((at + 1, "wipe", node, 0))
    if "operator" in allowed:
        found.append((later(0, 0.2), "recover", node, 0))
        found.append((later(0.4, 1), draw.choice(("fail", "fail", "recover")), node, 0))
        failed = [n for n in range(nodes) if n != node and draw.random() < 0.7]
        found += [(later(0.2, 0.6), "fail", other, 0) for other in failed]
        found += [(later(1, 3), "recover", each, 0) for each in (node, *failed)]
    return found


def _again(draw: Random, kind: str, node: int, at: int) -> Drawn:
    """An operator who may try more than once."""
    return [
        (at + turn * draw.choice((500, 5_000, 50_000)), kind, node, 0)
        for turn in range(draw.choice((1, 1, 1, 2)))
    ]
