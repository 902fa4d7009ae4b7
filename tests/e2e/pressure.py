"""Clients and an operator who give a real server no rest."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from client import Client, StoreError
from tests.callers import Caller

REQUEST_SECONDS_MAX = 20.0
JOIN_SECONDS_MAX = 60.0
READY_SECONDS_MAX = 20.0
UP, DOWN = "up", "down"


def press(
    callers: Sequence[Caller],
    keys: Sequence[str],
    ended: threading.Event,
    seed: object,
    pause_seconds: float = 0.0,
) -> Callable[[], None]:
    """Let each caller go on in a thread of its own until `ended`; returns what joins."""
    failures: list[BaseException] = []

    def go_on(caller: Caller, chance: random.Random) -> None:
        try:
            while not ended.is_set():
                caller.once(chance.choice(keys))
                if pause_seconds:
                    ended.wait(pause_seconds)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=go_on, args=(caller, random.Random(f"{seed}-{n}")))
        for n, caller in enumerate(callers)
    ]
    for thread in threads:
        thread.start()

    def join() -> None:
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads), "a client is stuck"
        assert not failures, failures

    return join


class Operator:
    """Fails and recovers nodes at random, never so that data are lost on purpose.

    `known` is the last status that each node must have, as acknowledged: DOWN, UP for
    anything else, None where that is not known. `changes` counts what was acknowledged:
    "stop", "wipe" and "recover".
    """

    def __init__(self, chance: random.Random, nodes: int = 3) -> None:
        self.known: dict[int, str | None] = dict.fromkeys(range(nodes), UP)
        self.changes: Counter[str] = Counter()
        self._chance = chance

    def go_on(self, url: str, ended: threading.Event, pause_seconds: float) -> None:
        """Change something, wait, and so on."""
        with Client(url, timeout=REQUEST_SECONDS_MAX) as store:
            while not ended.wait(self._chance.random() * 2 * pause_seconds):
                with suppress(StoreError):
                    self.change(store)

    def change(self, store: Client) -> None:
        """Take a node down or bring one back."""
        statuses = {node.node_id: node.status for node in store.nodes()}
        down = [node for node, status in statuses.items() if status == DOWN]
        all_up = set(statuses.values()) == {UP}
        if down and (len(down) > 1 or self._chance.random() < 0.7):
            self.recover(store, self._chance.choice(down))
        else:
            mode = "wipe" if all_up and self._chance.random() < 0.3 else "stop"
            node = self._chance.choice([node for node in statuses if node not in down])
            self._note(node, mode, DOWN, lambda: store.fail(node, mode))

    def recover(self, store: Client, node: int) -> None:
        """Bring a node back."""
        self._note(node, "recover", UP, lambda: store.recover(node))

    def recover_all(self, store: Client) -> None:
        """Bring every node back, and wait until all is served by all."""
        for node in self.known:
            self.recover(store, node)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not store.is_ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.is_ready(), store.events()
        assert {node.status for node in store.nodes()} == {UP}, store.nodes()

    def _note(
        self, node: int, change: str, status: str, call: Callable[[], object]
    ) -> None:
        before, self.known[node] = self.known[node], None
        try:
            call()
        except StoreError as error:
            if error.definite:
                self.known[node] = before
            raise
        self.known[node] = status
        self.changes[change] += 1
