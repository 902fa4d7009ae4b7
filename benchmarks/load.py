"""A small HTTP load generator, in a process of its own: `python -m benchmarks.load`.

It reads a `Load` as JSON from standard input, keeps each connection busy with one request
after another for a while, checks every answer, and writes a `Tally` as JSON. Requests are
built beforehand and answers are only searched for what they must hold, so that on a
small machine most of the time goes to the server. Standard library only.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.dialects import DIALECTS, Exchange, key_of
from processes.server import HOST

SILENCE_SECONDS_MAX = 10.0
PARSED_EVERY = 100  # of how many answers one is parsed as JSON as well


@dataclass(frozen=True)
class Load:
    """What to send: `operation` is "read" or "write" of keys 0 to `keys` - 1 in turn.

    With `seconds` 0 every key is sent once; otherwise it goes around until time is up.
    Where to, and in which of the `DIALECTS`, is for the server under load to fill in.
    Connections are spread evenly over several ports.
    """

    operation: str
    connections: int
    seconds: float
    keys: int = 1_000
    ports: Sequence[int] = ()
    dialect: str = "store"


@dataclass
class Tally:
    """What came back: the rate of right answers a second, and how many were wrong."""

    answers: int = 0
    failures: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    first_failure: str = ""


@dataclass
class Lane:
    """One connection: what it waits for and what it has received of it."""

    connection: socket.socket
    exchange: Exchange | None = None
    sent_at: float = 0.0
    received: bytes = b""
    latencies: list[float] = field(default_factory=list)


def complete(received: bytes) -> tuple[bytes, bytes] | None:
    """The head and body of an answer, or None while some of it is on its way."""
    head, gap, body = received.partition(b"\r\n\r\n")
    if not gap:
        return None
    low = head.lower()
    at = low.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"an answer without Content-Length: {head[:80]!r}")
    length = int(low[at + 17 :].split(b"\r\n", 1)[0])
    return (head, body) if len(body) >= length else None


class Generator:
    """Keeps the connections of one Load busy and counts what comes back."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._dialect = DIALECTS[load.dialect]
        ask = {"write": self._dialect.write, "read": self._dialect.read}[load.operation]
        self._exchanges = [ask(key_of(number)) for number in range(load.keys)]
        self._sent = 0
        self._waiting = 0
        self._tally = Tally()
        self._selector = selectors.DefaultSelector()

    def run(self) -> Tally:
        """Send until time is up, or every key was sent; then wait for what is open."""
        load, tally = self._load, self._tally
        lanes = [self._connect(number) for number in range(load.connections)]
        began = time.perf_counter()
        until = began + load.seconds
        try:
            for lane in lanes:
                self._send(lane, until)
            while self._waiting:
                ready = self._selector.select(SILENCE_SECONDS_MAX)
                if not ready:
                    raise TimeoutError(f"no answer in {SILENCE_SECONDS_MAX} s")
                for key, _ in ready:
                    self._receive(key.data, until)
        except (OSError, ValueError) as error:
            tally.failures += max(1, self._waiting)
            tally.first_failure = tally.first_failure or str(error)
        finally:
            for lane in lanes:
                lane.connection.close()
            self._selector.close()
        return self._summary(time.perf_counter() - began, lanes)

    def _connect(self, number: int) -> Lane:
        port = self._load.ports[number % len(self._load.ports)]
        connection = socket.create_connection((HOST, port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lane = Lane(connection)
        self._selector.register(connection, selectors.EVENT_READ, lane)
        return lane

    def _send(self, lane: Lane, until: float) -> None:
        exchange = self._exchanges[self._sent % self._load.keys]
        now = time.perf_counter()
        if now >= until if self._load.seconds else self._sent >= self._load.keys:
            return
        self._sent += 1
        self._waiting += 1
        lane.exchange = exchange
        lane.sent_at = now
        lane.connection.sendall(exchange.request)

    def _receive(self, lane: Lane, until: float) -> None:
        received = lane.connection.recv(65_536)
        if not received:
            raise ConnectionError("the server closed a connection")
        lane.received += received
        answer = complete(lane.received)
        if answer is None:
            return
        lane.received = b""
        lane.latencies.append(time.perf_counter() - lane.sent_at)
        self._waiting -= 1
        assert lane.exchange is not None, "an answer before a request"
        self._judge(*answer, lane.exchange)
        self._send(lane, until)

    def _judge(self, head: bytes, body: bytes, exchange: Exchange) -> None:
        tally = self._tally
        right = exchange.is_right(head, body)
        if right and tally.answers % PARSED_EVERY == 0:
            right = self._dialect.parses(exchange.key, body)
        if right:
            tally.answers += 1
            return
        tally.failures += 1
        line = head.split(b"\r\n", 1)[0] + b" " + body[:200]
        tally.first_failure = tally.first_failure or line.decode("utf-8", "replace")

    def _summary(self, seconds: float, lanes: list[Lane]) -> Tally:
        tally = self._tally
        latencies = sorted(each for lane in lanes for each in lane.latencies)
        tally.seconds = seconds
        tally.rate = tally.answers / seconds
        if latencies:
            tally.p50_ms = latencies[len(latencies) // 2] * 1000
            tally.p99_ms = latencies[len(latencies) * 99 // 100] * 1000
        return tally


def main() -> int:
    """Run the Load on standard input; the Tally goes to standard output."""
    load = Load(**json.load(sys.stdin))
    json.dump(asdict(Generator(load).run()), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
