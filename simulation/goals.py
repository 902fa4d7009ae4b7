"""What a campaign must have come across to prove anything, and whether it did.

After Antithesis' "sometimes" assertions: each goal must be reached in at least one run of
many; one that never was is reported, and not hidden behind a number of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulation import invariants, network, trial
from simulation.faults import FAULTS
from simulation.network import ANOMALIES

_COPIES = ("Fetch", "Digests", "BucketDigests", "Versions", "Get", "Put")
# What it is called -> the counters of a run (World.exercised) any of which stands for it.
GOALS: dict[str, tuple[str, ...]] = {
    "recovery interrupted": ("a recovery ended before the node was up",),
    "source or target of a copy died": tuple(
        f"a node stopped while asked for {kind}" for kind in _COPIES
    ),
    "wipe overtaken by a recovery": ("a wipe was overtaken by a recovery",),
    "recovery overtaken by a failure": ("a recovery was overtaken by a failure",),
    "killed during a recovery": ("killed during a recover",),
    "killed during upkeep": ("killed during a maintain",),
    "killed while starting": ("killed during a start",),
    "killed while stopping": ("killed during a stop",),
    "start given up and tried again": ("start given up",),
    "start refused, too few disks readable": (
        "start refused, too few disks can be read",
    ),
    "written without some replica": (invariants.WITHOUT,),
    "written by the last in-sync survivor": (invariants.LAST,),
    "node waited for its peers": ("event waiting",),
    "node caught up": ("event node_recovered",),
    "storage failed": ("event storage_failed",),
    "storage replaced": ("event storage_replaced",),
    "commit cut off in its middle": ("a commit was cut off in its middle",),
    "tombstone purged": ("event purged",),
    "expired value buried": ("event expired",),
    "differing copies settled": ("agree",),
    "unknown write settled by upkeep": ("settle_if_unsettled",),
    "write of unknown outcome": (trial.UNKNOWN_WRITE,),
    "write of unknown outcome read later": (trial.UNKNOWN_READ,),
    "condition did not hold": (trial.NOT_HELD,),
    "request refused": (trial.REFUSED,),
    "message arrived too late": (network.LATE,),
    "message of an old epoch refused": (network.FENCED,),
    "core went on without the rest": ("a core went on without the rest",),
}


def reached(exercised: Mapping[str, int]) -> dict[str, int]:
    """How often each goal was reached."""
    return {
        goal: sum(exercised.get(counter, 0) for counter in counters)
        for goal, counters in GOALS.items()
    }


def injected_by_kind(injected: Mapping[str, int]) -> dict[str, int]:
    """How often each kind of fault happened, those that never did included."""
    return {kind: injected.get(kind, 0) for kind in (*FAULTS, *ANOMALIES)}
