"""A run as data: the cluster, what clients do, and everything that goes wrong, and when.

A seed makes a plan (`simulation.swarm`), and the plan makes the run: nothing else is
drawn from anywhere. So a plan that was saved, or shrunk, runs exactly as it is written,
whatever becomes of the way in which plans are drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from access import READ, cannot
from texts import NotUtf8, utf8_text

FORMAT = 1
REACHED = -2
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class BadPlan(Exception):
    """A file is no plan, or one of another version; the text says what would be."""


class Step(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that a client does, once its last one has been answered.

    `think_us` is how long it waits first. Conditions are on what it last saw of the key.
    """

    number: int  # its own in the plan, and what the fates of its messages are drawn by
    client: int
    action: str  # one of workload.ACTIONS
    key: str
    think_us: Whole
    ttl_ms: Whole = 0


class Fault(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that goes wrong, or is put right again, at a time.

    `node` is whom it happens to, `amount` how much of it; see faults.FAULTS. With
    `after_puts` it waits for that many Puts to reach a node from then on, and happens
    before they are durable: when it hurts most. Node REACHED is the one that the Put
    reached for which a fault waited last.
    """

    number: int
    at_us: Whole
    kind: str
    node: int = -1
    amount: int = 0
    after_puts: Whole = 0


class Anomaly(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the network did to one message: the `message`-th of a task, to `node`."""

    task: int
    message: int
    node: int
    kind: str  # one of network.ANOMALIES
    amount_us: int = 0


class Noise(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How often the network does what to a message: shares of all messages, 0 to 1."""

    lose_request: Share = 0.0
    lose_reply: Share = 0.0
    delay_request: Share = 0.0
    delay_reply: Share = 0.0
    duplicate: Share = 0.0


class Times(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How long things take, in microseconds; pairs are from and to."""

    message: tuple[int, int] = (200, 2_000)
    flush: tuple[int, int] = (100, 1_500)  # until a change is durable
    patience: int = 50_000  # until an unanswered message counts as silence
    client: int = 2_000_000  # until a client gives up
    upkeep: Count = 500_000  # between two rounds of upkeep
    restart: int = 20_000  # from the end of the process to its next start
    grace: int = 1_000_000  # that a tombstone is kept at least


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a run follows from."""

    seed: Whole
    nodes: Annotated[int, Meta(ge=1, le=100)]
    replication_factor: Count
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...] = ()
    noise: Noise = Noise()
    anomalies: tuple[Anomaly, ...] | None = None  # in place of `noise`
    times: Times = Times()
    protocol: str = "primary-backup"
    min_in_sync: Count = 1
    copy_batch: int = 256  # keys, partitions or buckets in one message of a copy
    format: int = FORMAT

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that clients use, in order."""
        return tuple(sorted({step.key for step in self.steps}))


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan as JSON that people can read and change."""
    text = msgspec.json.format(msgspec.json.encode(plan), indent=1)
    path.write_bytes(text + b"\n")


class _Header(Struct):
    """What a file says of itself, whatever else is in it."""

    format: int = 1  # the first plans did not say


def load_plan(path: Path) -> Plan:
    """Read a plan; BadPlan says why it is none."""
    try:
        text = utf8_text(path.read_bytes())
        found = msgspec.json.decode(text, type=_Header).format
        if found != FORMAT:
            raise BadPlan(
                f"{path} is a plan of format {found}, this program runs {FORMAT}"
            )
        return msgspec.json.decode(text, type=Plan)
    except OSError as error:
        raise BadPlan(cannot(READ, path, error)) from error
    except (NotUtf8, msgspec.DecodeError, RecursionError) as error:
        raise BadPlan(
            f"{path} is not a plan: {error}; one is written where a run is violated"
        ) from error
