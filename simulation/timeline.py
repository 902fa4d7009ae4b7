"""A run told line by line: a lane for each client and each node, and what happened.

Only what has to do with one key, and every fault, so that it stays readable.
"""

from __future__ import annotations

from models import Fetch, Get, Purge, Put
from simulation.faults import FAULTS
from simulation.kernel import MS_US
from simulation.network import Exchange
from simulation.plan import Fault, Plan, Step
from simulation.trial import Trial
from simulation.workload import Client, Request

HAPPENS, OPEN, IDLE, DOWN, PAUSED = "●", "│", " ", "×", "‖"
LINES_MAX = 200
CORE = "core"


class Told(Trial):
    """A trial that notes what happens to one key as it goes on; None: to every key."""

    def __init__(self, plan: Plan, key: str | None) -> None:
        super().__init__(plan)
        self.lines: list[str] = []
        self._key = key
        self.world.network.watch = self._message
        for client in self.clients:
            client.watch = self._client_did

    @property
    def header(self) -> str:
        """The line above the others."""
        clients = " ".join(self._shown())
        nodes = " ".join(f"n{node}" for node in self.world.machines)
        return f"{'ms':>10}  {clients}  {nodes}"

    def text(self) -> str:
        """All lines; of a very long run its end."""
        lines = self.lines
        if len(lines) > LINES_MAX:
            left = f"{'...':>10}  ({len(lines) - LINES_MAX} lines before these)"
            lines = [left, *lines[-LINES_MAX:]]
        return "\n".join([self.header, *lines])

    def _client(self, name: str, steps: list[Step]) -> Client:
        client = super()._client(name, steps)
        client.watch = self._client_did
        return client

    def _strike(self, fault: Fault) -> bool:
        if not super()._strike(fault):
            return False
        words = FAULTS[fault.kind].words
        text = words.format(node=fault.node, amount=fault.amount)
        self._line(text, f"n{fault.node}" if "{node}" in words else "")
        return True

    def _client_did(self, client: Client, request: Request, what: str) -> None:
        key = request.step.key
        if self._key in (None, key):
            self._line(f"{client.name} {what}", client.name)

    def _message(self, what: str, exchange: Exchange) -> None:
        text = _said(exchange, self._key)
        if text is not None:
            node = exchange.node
            late = ", after its sender gave up" if exchange.sender.is_over else ""
            self._line(f"node {node}: {text} {what}{late}", f"n{node}")

    def _line(self, text: str, lane: str) -> None:
        waiting = {c.name for c in self.clients if c.request is not None}
        clients = " ".join(
            _mark(name, lane, OPEN if name in waiting else IDLE)
            for name in self._shown()
        )
        nodes = " ".join(
            _mark(f"n{node}", lane, self._state(node)) for node in self.world.machines
        )
        self.lines.append(
            f"{self.world.kernel.now / MS_US:>10.3f}  {clients}  {nodes}  {text}"
        )

    def _shown(self) -> list[str]:
        """The lanes: the same from the first line to the last."""
        return [f"c{n}" for n in sorted({step.client for step in self.plan.steps})] + [
            CORE
        ]

    def _state(self, node: int) -> str:
        machine = self.world.machines[node]
        if machine.paused:
            return PAUSED
        if machine.crashed or not self.world.has_process:
            return DOWN
        return DOWN if self.world.manager.cluster.status[node] == "down" else OPEN


def _mark(name: str, lane: str, state: str) -> str:
    return (HAPPENS if name == lane else state).center(len(name))


def _said(exchange: Exchange, key: str | None) -> str | None:
    """A message in words, None if it has nothing to do with the key."""
    message = exchange.payload
    if isinstance(message, Put):
        found = [r for r in message.records if key in (None, r.key)]
        texts = [
            f"{r.key}={r.value.decode() if r.value is not None else 'deleted'}"
            for r in found
        ]
        return f"put {', '.join(texts)}" if found else None
    if isinstance(message, Get):
        return f"get {message.key}" if key in (None, message.key) else None
    if isinstance(message, Fetch):
        return "fetch" if key is None or key in message.keys else None
    if isinstance(message, Purge):
        return "purge" if key is None or key in message.versions else None
    return None


def told(plan: Plan, key: str | None) -> str:
    """The timeline of a plan's run."""
    trial = Told(plan, key)
    trial.run()
    return trial.text()
