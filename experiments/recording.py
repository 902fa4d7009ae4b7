"""Histories of live clients: every request and what became of it, noted as it happens.

    with Path("history.jsonl").open("w", encoding="utf-8", buffering=1) as file:
        recording = Recording(file.write, note="two clients")
        store = recording.client(Client("http://127.0.0.1:5000"), "c1")
        store.write("greeting", "hello")

What is noted can be judged afterwards, `python run.py check history.jsonl`; the format is
described in `docs/histories.md`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from checker.events import Held, encode, raw
from checker.history import ABSENT, PRESENT, Recorder, State, Token, canonical
from client import KeyNotFound, StoreError, VersionMismatch

T = TypeVar("T")
WEAK_LEVEL = "one"  # the store's level that does not promise linearizability


def now_us() -> int:
    """The one clock of a history: microseconds, and never back."""
    return time.monotonic_ns() // 1_000


class Written(Protocol):
    """What is needed of the answer to a write or delete."""

    @property
    def version(self) -> str: ...


class Found(Protocol):
    """What is needed of the answer to a read."""

    @property
    def version(self) -> str: ...
    @property
    def value(self) -> Any: ...


class Store(Protocol):
    """What a recording client asks: a client.Client. It raises client.StoreError."""

    def write(
        self,
        key: str,
        value: Any,
        *,
        if_version: str | None,
        if_absent: bool,
        consistency: str | None,
    ) -> Written: ...

    def read(self, key: str, *, consistency: str | None) -> Found: ...

    def delete(
        self, key: str, *, if_version: str | None, consistency: str | None
    ) -> Written: ...


class Recording:
    """One history in the making, shared by its clients; for many threads.

    `write` is given each line with its end, one at a time. `show` is what the history
    has of a value: the value itself, or for large ones something that stands for it.
    `now` is the clock of its times, in `unit`.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        now: Callable[[], int] = now_us,
        unit: str = "us",
        note: str = "",
        show: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self.now = now
        self.show = show
        self._write = write
        self._lock = threading.Lock()
        self.recorder = Recorder(write, now, unit=unit, note=note, lock=self._lock)

    def client(self, store: Store, name: str) -> RecordingClient:
        """A client of this history; each needs a name of its own."""
        return RecordingClient(store, self, name)

    def replicas(self, found: RecordingClient, told: dict[str, Any]) -> None:
        """Note what each replica of a key holds at the end; `told` is `Client.replicas`.

        A replica tells its version alone: its value is the one that `found`, which has
        just read the key, was shown with that version. Replicas of other versions differ
        from it, which is all there is to say of them. ValueError if they all have a newer
        one: a store may write a value again under another version, so read it again.
        """
        key = told["key"]
        seen = found.seen(key)
        newest = {replica["version"] or "" for replica in told["replicas"]}
        if seen is not None and len(newest) == 1 and max(newest) > seen[0]:
            raise ValueError(
                f"{key} was written again since it was read (version {max(newest)} "
                f"after {seen[0]}): read it again, then note its replicas"
            )
        for replica in told["replicas"]:
            held = Held(f"n{replica['node_id']}", key, version=replica["version"])
            if seen is not None and replica["version"] == seen[0]:
                held = Held(held.node, key, raw(seen[1]), seen[0])
            with self._lock:
                self._write(encode(held))


class RecordingClient:
    """Asks a store as `client.Client` does, and notes what it asked and was told.

    Not for many threads: a client of a history waits for an answer before it asks again.
    After an outcome that nobody knows it goes on under another name, as the request may
    still be under way. There is no `ttl`: that a value expires, nobody is told.
    """

    def __init__(self, store: Store, recording: Recording, name: str) -> None:
        self.store = store
        self.name = name
        self._first_name = name
        self._unknown = 0
        self._recorder = recording.recorder
        self._show = recording.show
        self._seen: dict[str, tuple[str, str]] = {}  # key: (version, value's text)

    def seen(self, key: str) -> tuple[str, str] | None:
        """The version and value (as JSON text) last seen or written; None: no value."""
        return self._seen.get(key)

    def read(self, key: str, *, consistency: str | None = None) -> Found:
        """The value of a key; KeyNotFound where there is none."""
        token = self._recorder.invoke(
            self.name, "read", key, level=_level_of(consistency)
        )

        def ask() -> tuple[Found, str]:
            found = self.store.read(key, consistency=consistency)
            return found, canonical(self._show(found.value))

        found, text = self._ask(token, key, ask)
        self._recorder.ok(token, value=text, version=found.version)
        self._seen[key] = (found.version, text)
        return found

    def write(
        self,
        key: str,
        value: Any,
        *,
        if_version: str | None = None,
        if_absent: bool = False,
        consistency: str | None = None,
    ) -> Written:
        """Create or update a key; conditions as for `client.Client.write`."""
        text = canonical(self._show(value))
        condition = ABSENT if if_absent else self._condition(key, if_version)
        token = self._recorder.invoke(
            self.name, "write", key, text, condition, level=_level_of(consistency)
        )
        call = partial(
            self.store.write,
            key,
            value,
            if_version=if_version,
            if_absent=if_absent,
            consistency=consistency,
        )
        written = self._ask(token, key, call)
        self._recorder.ok(token, version=written.version)
        self._seen[key] = (written.version, text)
        return written

    def delete(
        self, key: str, *, if_version: str | None = None, consistency: str | None = None
    ) -> Written:
        """Delete a key; KeyNotFound where there is no value."""
        condition = self._condition(key, if_version) or PRESENT
        token = self._recorder.invoke(
            self.name, "delete", key, None, condition, level=_level_of(consistency)
        )
        call = partial(
            self.store.delete, key, if_version=if_version, consistency=consistency
        )
        deleted = self._ask(token, key, call)
        self._recorder.ok(token, version=deleted.version)
        self._seen.pop(key, None)
        return deleted

    def _condition(self, key: str, version: str | None) -> State | None:
        """A version stands for the value that was last seen with it.

        Of one that was never seen nothing is known, and to demand nothing is true too.
        """
        seen = self._seen.get(key)
        if version is None or seen is None or seen[0] != version:
            return None
        return State("is", seen[1])

    def _ask(self, token: Token, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except StoreError as error:
            if error.definite:
                self._refused(token, key, error)
            else:
                self._lost(token)
            raise
        except BaseException:  # an answer that cannot be read, or an interruption
            self._lost(token)
            raise

    def _refused(self, token: Token, key: str, error: StoreError) -> None:
        """Nothing was done; some refusals tell what the key is."""
        if isinstance(error, KeyNotFound):
            self._seen.pop(key, None)
            if token.action == "read":
                self._recorder.ok(token, version=error.version)
            else:
                self._recorder.failed(token, saw=ABSENT, version=error.version)
        elif isinstance(error, VersionMismatch):
            saw = ABSENT if error.version is None else PRESENT
            self._recorder.failed(token, saw=saw, version=error.version)
        else:
            self._recorder.failed(token)

    def _lost(self, token: Token) -> None:
        """Nobody knows: whoever asked is gone, and somebody new goes on."""
        self._recorder.unknown(token)
        self._unknown += 1
        self.name = f"{self._first_name}.{self._unknown}"


def _level_of(consistency: str | None) -> str:
    return "weak" if consistency == WEAK_LEVEL else ""
