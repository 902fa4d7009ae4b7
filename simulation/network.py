"""The simulated network: what becomes of every message, and the machines it goes to.

A message to a node may be lost, delayed until its sender has given up, or delivered twice;
its answer may be lost or delayed. A link may be cut one way or both. A machine that has
crashed refuses what arrives or leaves it unanswered, one that is paused answers later.

What happens to a message is drawn by its place (`kernel.bits`): which task sent it, as
which of its messages, to which node. Whatever was not ordinary is noted, so that a run can
be told again with those anomalies written down in place of the rates they were drawn by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType
from typing import Any, Protocol

from cluster.node import OldEpoch
from models import (
    Get,
    Message,
    NodeId,
    Purge,
    Put,
    Record,
    Refused,
    SaveState,
    Unconfirmed,
)
from replication import ReplicaNode
from simulation.kernel import Kernel, bits
from simulation.plan import Anomaly, Noise, Times
from simulation.storage import Commit, SimulatedStorage
from storage.base import StorageEnded

MANAGER = -1  # the manager's end of a link
LOSE_REQUEST, LOSE_REPLY = "lose_request", "lose_reply"
DELAY_REQUEST, DELAY_REPLY = "delay_request", "delay_reply"
DUPLICATE = "duplicate"
ANOMALIES = (LOSE_REQUEST, LOSE_REPLY, DELAY_REQUEST, DELAY_REPLY, DUPLICATE)
ANSWERED, REFUSED, SILENT = range(3)
LATE = "a message arrived after its sender had given up"
FENCED = "a node refused a message of an old epoch"
_SHARE = 1 << 32
_CHANGES = (Put, Purge, SaveState)
_FROZEN = frozenset((Put, Get, Record, NoneType, SaveState))  # the most common ones


class Sender(Protocol):
    """Who waits for the answers to a message."""

    @property
    def is_over(self) -> bool:
        """It waits no more: its operation went on, or its process died."""

    @property
    def is_dead(self) -> bool:
        """Its process died."""

    def reply(self, node: NodeId, kind: int, answer: Any) -> None:
        """A node answered: ANSWERED with what it said, REFUSED or SILENT."""

    def failed(self, node: NodeId, error: Exception) -> None:
        """The node's storage failed under the message."""


class Machine:
    """One node's machine: the node itself, its storage, and whether it runs."""

    def __init__(self, storage: SimulatedStorage) -> None:
        self.storage = storage
        self.node = ReplicaNode(storage.node, storage)
        self.crashed = False
        self.paused = False
        self.inbox: list[Callable[[], None]] = []  # what arrived while it was paused


class Exchange:
    """A message to one node and its answer. `number` and `message` name its place."""

    __slots__ = (
        "anomaly", "is_orphan", "message", "node", "number", "payload", "sender",
    )  # fmt: skip

    def __init__(
        self, number: int, message: int, node: NodeId, payload: Message, sender: Sender
    ) -> None:
        self.number = number
        self.message = message
        self.node = node
        self.payload = payload
        self.sender = sender
        self.anomaly: Anomaly | None = None
        self.is_orphan = False  # its process died while it was on its way


class Network:
    """Carries messages between the manager and the nodes' machines.

    `cuts` are links that lose everything: (from, to), MANAGER for the manager's end.
    `late_records` are by how many microseconds the next state record to a node comes late.
    `watch` is told of every message that is handled or lost: (what, exchange).
    """

    def __init__(
        self,
        kernel: Kernel,
        machines: Mapping[NodeId, Machine],
        times: Times,
        seed: int,
    ) -> None:
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.late_records: dict[NodeId, int] = {}
        self.happened: list[Anomaly] = []
        self.exercised: Counter[str] = Counter()
        self.purged: Callable[[Purge], None] = lambda purge: None
        self.watch: Callable[[str, Exchange], None] | None = None
        self._traps: list[tuple[int, Callable[[NodeId], None]]] = []
        self._kernel = kernel
        self._machines = machines
        self._times = times
        self._seed = seed
        self._low, high = times.message
        self._spread = high - self._low + 1
        self._limits: tuple[tuple[int, str], ...] = ()
        self._limit = 0
        self._written: dict[tuple[int, int, NodeId], Anomaly] = {}

    def set_noise(self, noise: Noise) -> None:
        """From now on draw what goes wrong with messages at these rates."""
        self._written = {}
        limits, sum_so_far = [], 0.0
        for kind in ANOMALIES:
            sum_so_far += getattr(noise, kind)
            limits.append((int(min(sum_so_far, 1.0) * _SHARE), kind))
        self._limits = tuple(limits)
        self._limit = limits[-1][0]

    def set_anomalies(self, anomalies: tuple[Anomaly, ...]) -> None:
        """From now on let exactly this go wrong with messages."""
        self.set_noise(Noise())
        self._written = {(a.task, a.message, a.node): a for a in anomalies}

    def trap(self, puts: int, action: Callable[[NodeId], None]) -> None:
        """Do something to the node that is the so-manieth to be reached by a Put."""
        self._traps.append((puts, action))

    def _spring_traps(self, node: NodeId) -> None:
        traps = [(puts - 1, action) for puts, action in self._traps]
        self._traps = [(puts, action) for puts, action in traps if puts]
        for puts, action in traps:
            if not puts:
                self._kernel.after(0, action, node)

    def send(self, exchange: Exchange) -> None:
        """Send a message. `reply` of the exchange may be called later, once or never."""
        node = exchange.node
        exchange.payload = copied(exchange.payload)  # as it is when it leaves
        draw = bits(self._seed, exchange.number, exchange.message, node)
        if draw >> 32 < self._limit or self._written:
            exchange.anomaly = self._anomaly(exchange, draw)
        if self.late_records and type(exchange.payload) is SaveState:
            self._delay_record(exchange)
        delay = self._low + (draw & 0xFFFF) * self._spread // 0x10000
        anomaly = exchange.anomaly
        if anomaly is not None:
            if anomaly.kind == LOSE_REQUEST:
                self._tell("lost", exchange)
                return
            if anomaly.kind == DELAY_REQUEST:
                delay += anomaly.amount_us
        if self.cuts and (MANAGER, node) in self.cuts:
            self._tell("lost", exchange)
            return
        self._kernel.after(delay, self._arrive, exchange, draw)

    def _anomaly(self, exchange: Exchange, draw: int) -> Anomaly | None:
        place = (exchange.number, exchange.message, exchange.node)
        if self._written:
            found = self._written.get(place)
        else:
            kind = next(kind for limit, kind in self._limits if draw >> 32 < limit)
            amount = 0
            if kind in (DELAY_REQUEST, DELAY_REPLY, DUPLICATE):
                # Mostly about as long as a sender waits, now and then far longer.
                more = bits(self._seed, *place[:2], ~place[2])
                amount = (more & 0xFFFF) * self._times.patience * 3 // 0x10000
                amount *= 20 if more >> 32 & 7 == 0 else 1
            found = Anomaly(*place, kind, amount)
        if found is not None:
            self.happened.append(found)
        return found

    def _delay_record(self, exchange: Exchange) -> None:
        late_us = self.late_records.pop(exchange.node, 0)
        if late_us and exchange.anomaly is None:
            place = (exchange.number, exchange.message, exchange.node)
            exchange.anomaly = Anomaly(*place, DELAY_REQUEST, late_us)
            self.happened.append(exchange.anomaly)

    def _arrive(self, exchange: Exchange, draw: int, first: bool = True) -> None:
        machine = self._machines[exchange.node]
        if machine.crashed:
            self._tell("lost", exchange)
            if first and draw >> 16 & 1:  # its port is closed: nothing was done
                self._answer(exchange, draw, REFUSED, None)
            return
        if machine.paused:
            machine.inbox.append(partial(self._arrive, exchange, draw, first))
            return
        self._kernel.note(exchange.number, exchange.message << 8 | exchange.node)
        if exchange.sender.is_over:
            if self._is_held_back(exchange, draw, first):
                return
            self.exercised[LATE] += 1
        machine.storage.place = draw
        try:
            answer = machine.node.handle(copied(exchange.payload))
        except Refused as refusal:
            if isinstance(refusal, OldEpoch):
                self.exercised[FENCED] += 1
            self._tell("refused", exchange)
            if first:
                self._answer(exchange, draw, REFUSED, None)
        except Unconfirmed:
            self._answer(exchange, draw, SILENT, None)
        except StorageEnded as error:
            self._answer(exchange, draw, SILENT, None)
            exchange.sender.failed(exchange.node, error)
        else:
            if self.watch is not None:
                self.watch("handled", exchange)
            if type(exchange.payload) is Purge:
                self.purged(exchange.payload)
            elif self._traps and type(exchange.payload) is Put:
                self._spring_traps(exchange.node)
            if isinstance(answer, Commit):
                answer.then(partial(self._durable, exchange, draw, first))
            else:
                self._done(exchange, draw, first, answer)

    def _is_held_back(self, exchange: Exchange, draw: int, first: bool) -> bool:
        """What becomes of a message whose process died while it was on its way.

        It arrives, or is lost, or arrives when the next process may serve already.
        """
        if exchange.is_orphan or not exchange.sender.is_dead:
            return False
        exchange.is_orphan = True
        fate = bits(self._seed, exchange.number, exchange.message, ~exchange.node)
        if fate & 3 < 2:
            delay = (fate >> 2 & 0xFF) * self._times.patience >> 7
            self._kernel.after(delay, self._arrive, exchange, draw, first)
            return True
        return fate & 3 == 2

    def _durable(
        self,
        exchange: Exchange,
        draw: int,
        first: bool,
        answer: Any,
        error: Exception | None,
    ) -> None:
        if error is None:
            self._done(exchange, draw, first, answer)
            return
        if first:
            kind = REFUSED if isinstance(error, Refused) else SILENT
            self._answer(exchange, draw, kind, None)
        if not isinstance(error, Refused | Unconfirmed):
            exchange.sender.failed(exchange.node, error)

    def _done(self, exchange: Exchange, draw: int, first: bool, answer: Any) -> None:
        if not first:
            return
        anomaly = exchange.anomaly
        if (
            anomaly is not None
            and anomaly.kind == DUPLICATE
            and isinstance(exchange.payload, _CHANGES)
        ):  # only what was taken may come again: who was refused was told so
            self._kernel.after(anomaly.amount_us, self._arrive, exchange, draw, False)
        self._answer(exchange, draw, ANSWERED, copied(answer))

    def _answer(self, exchange: Exchange, draw: int, kind: int, answer: Any) -> None:
        node, anomaly = exchange.node, exchange.anomaly
        if self.cuts and (node, MANAGER) in self.cuts:
            self._tell("lost answer", exchange)
            return
        delay = self._low + (draw >> 16 & 0xFFFF) * self._spread // 0x10000
        if anomaly is not None:
            if anomaly.kind == LOSE_REPLY:
                self._tell("lost answer", exchange)
                return
            if anomaly.kind == DELAY_REPLY:
                delay += anomaly.amount_us
        self._kernel.after(delay, exchange.sender.reply, node, kind, answer)

    def _tell(self, what: str, exchange: Exchange) -> None:
        if self.watch is not None:
            self.watch(what, exchange)


def copied(value: Any) -> Any:
    """The same in containers of its own, so that no two machines share one.

    Records, versions and the messages that hold only such and tuples of them are frozen:
    what cannot change need not be copied.
    """
    kind = type(value)
    if kind in _FROZEN:
        return value
    if kind is dict:
        return {key: copied(each) for key, each in value.items()}
    if kind is list:
        return [copied(each) for each in value]
    if kind is set:
        return set(value)
    if kind is Purge:
        return Purge(dict(value.versions), value.epoch)
    return value
