"""Slow, silent, vanishing and far too many clients: none of them harms another.

The bounds on time are wide, for machines that are busy: what is tested is that nobody
waits for a stranger, not how fast anybody is.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.abuse import JSON, PROBLEM, Answer, answers_in
from tests.e2e.served import Served

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUT_SECONDS = 2  # --body-seconds and --idle-seconds of the servers that cut soon
WAIT_SECONDS_MAX = 20.0
PROMPT_SECONDS_MAX = 5.0  # for one ordinary request, on a machine that is busy
HEAD = (
    b"POST /write HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 60\r\n"
)
HALF_BODY = HEAD + b'\r\n{"key":"slow",'
CHUNKED = HEAD.replace(b"Content-Length: 60", b"Transfer-Encoding: chunked") + b"\r\n"
HALF_CHUNKED = CHUNKED + b'ff\r\n{"key":"slow","value":1}'
DESCRIPTORS = 4_096
PROC = Path("/proc")
ORDINARY_CLIENTS = 4
ROUNDS_MIN = 3  # of each: a write, a read and a delete
THREADS_SLACK = 40  # pools that grow under load and shrink at leisure
DESCRIPTORS_SLACK = 20


@pytest.fixture(scope="module")
def cutting(tmp_path_factory) -> Iterator[Served]:
    """A server that hangs up soon on who is slow."""
    flags = ("--body-seconds", CUT_SECONDS, "--idle-seconds", CUT_SECONDS)
    with Served(
        tmp_path_factory.mktemp("cutting"), "--storage", "memory", *flags
    ) as one:
        yield one
        assert "Traceback" not in one.log.read_text("utf-8")


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """A server as anybody starts it, which must be sound at the end."""
    with Served(tmp_path, "--storage", "memory") as one:
        yield one
        assert one.ask("GET", "/readyz")[0] == 200
        assert "Traceback" not in one.log.read_text("utf-8")


# --- Deadlines -----------------------------------------------------------------------


@pytest.mark.parametrize("pause", [None, 0.2], ids=["silent", "dripping"])
def test_half_a_body_is_told_when_its_time_is_up(cutting, pause):
    with cutting.connect() as connection:
        began = time.monotonic()
        connection.sendall(HALF_BODY)

        received = until_closed(connection, pause)

    seconds = time.monotonic() - began
    (answer,) = answers_in(received, "POST")
    assert (answer.status, answer.headers["content-type"]) == (408, PROBLEM)
    assert answer.document["code"] == "request_timeout"
    assert answer.document["definite"] is True
    assert answer.headers["connection"].lower() == "close"
    assert seconds > CUT_SECONDS / 2
    assert cutting.ask("GET", "/read/slow")[0] == 404


@pytest.mark.parametrize(
    "sent", [b"", b"GE", HEAD], ids=["nothing", "a-letter", "headers"]
)
def test_half_a_head_is_hung_up_on(cutting, sent):
    with cutting.connect() as connection:
        began = time.monotonic()
        connection.sendall(sent)

        received = until_closed(connection)

    assert received[:12] in (b"", b"HTTP/1.1 408")
    assert time.monotonic() - began > CUT_SECONDS / 2


def test_head_that_drips_for_ever_is_hung_up_on(cutting):
    with cutting.connect() as connection:
        connection.sendall(HEAD + b"X-Drip: ")

        received = until_closed(connection, pause=0.2)

    assert received[:12] in (b"", b"HTTP/1.1 408")


def test_idle_connection_is_kept_for_a_while_and_then_closed(cutting):
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with cutting.connect() as connection:
        for _ in range(6):  # longer than the limit in all, and never idle so long
            time.sleep(CUT_SECONDS / 4)
            connection.sendall(request)
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()

        assert until_closed(connection) == b""

        assert time.monotonic() - began > CUT_SECONDS / 2


def until_closed(connection: socket.socket, pause: float | None = None) -> bytes:
    """What comes until the other side closes; with `pause`, drips a byte at a time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    received = b""
    while time.monotonic() < deadline:
        connection.settimeout(pause or WAIT_SECONDS_MAX)
        try:
            piece = connection.recv(65_536)
        except TimeoutError:
            with suppress(OSError):  # it may have been closed just now
                connection.send(b" ")
            continue
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece
    raise AssertionError(
        f"it was not closed in {WAIT_SECONDS_MAX} s: {received[:200]!r}"
    )


# --- Beside slow clients -------------------------------------------------------------


@pytest.mark.parametrize("length", [60, 8 << 20], ids=["small", "largest"])
def test_ordinary_clients_are_served_beside_two_hundred_slow_ones(served, length):
    half_body = HALF_BODY.replace(b"Length: 60", b"Length: %d" % length)
    warm_up(served)
    before = resources(served)
    with ExitStack() as stack:
        slow = []
        for number in range(200):
            connection = stack.enter_context(served.connect())
            connection.sendall(HEAD if number % 2 else half_body)
            slow.append(connection)
        with dripping(slow[:20] + slow[-20:]):
            began = time.monotonic()
            rounds = ordinary_clients(served, lambda: time.monotonic() - began > 5)

    assert min(rounds) >= ROUNDS_MIN
    assert served.ask("GET", "/read/slow")[0] == 404
    settle(served, before)


def test_clients_that_never_read_hold_nobody_up(served):
    assert write(served, "large", "v" * 1_000_000) == 200
    warm_up(served)
    before = resources(served)
    request = b"GET /read/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(60):  # several for each thread of the server
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", served.port))
            deaf.sendall(request * 20)
        began = time.monotonic()
        rounds = ordinary_clients(served, lambda: time.monotonic() - began > 3)

    assert min(rounds) >= ROUNDS_MIN
    settle(served, before)


def test_clients_that_vanish_leave_nothing_behind(served):
    assert write(served, "large", "v" * 1_000_000) == 200
    warm_up(served)
    before = resources(served)
    read = b"GET /read/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    whole = CHUNKED + b'18\r\n{"key":"slow","value":1}\r\n'  # the JSON, not the chunks
    for number in range(60):
        for sent in (HALF_BODY, HEAD, b"", whole, HALF_CHUNKED):
            vanish(served, sent, reset=number % 2 == 0)
        vanish(served, read, reset=number % 2 == 0, read_bytes=1_000)
        vanish(served, read * 3, reset=number % 2 == 0)

    began = time.monotonic()
    rounds = ordinary_clients(served, lambda: time.monotonic() - began > 1)

    assert min(rounds) >= ROUNDS_MIN
    assert served.ask("GET", "/read/slow")[0] == 404
    settle(served, before)


def vanish(served: Served, sent: bytes, *, reset: bool, read_bytes: int = 0) -> None:
    """Send, perhaps read a little, and be gone, with or without a word."""
    with served.connect() as connection:
        connection.sendall(sent)
        if read_bytes:
            assert connection.recv(read_bytes)
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 seconds: a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Send a byte on each of them every now and then."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.2):
            for connection in connections:
                with suppress(OSError):  # it may have been cut off, as it should be
                    connection.send(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ordinary_clients(served: Served, is_over: Callable[[], bool]) -> list[int]:
    """Clients that write, read and delete, each of their requests answered promptly.

    How many rounds each of them made: a few, and as many as come until it is over.
    """

    def work(client: int) -> int:
        rounds = 0
        while rounds < ROUNDS_MIN or not is_over():
            key = f"ordinary-{client}-{rounds}"
            body = json.dumps({"key": key, "value": rounds}).encode()
            promptly(served, "POST", "/write", body)
            assert promptly(served, "GET", f"/read/{key}")["value"] == rounds
            promptly(served, "DELETE", f"/delete/{key}")
            rounds += 1
        return rounds

    with ThreadPoolExecutor(ORDINARY_CLIENTS) as pool:
        return list(pool.map(work, range(ORDINARY_CLIENTS)))


def promptly(
    served: Served, method: str, target: str, body: bytes | None = None
) -> dict:
    """One good request that is answered well, and soon; its document."""
    headers = {} if body is None else {"Content_Type": JSON}
    began = time.monotonic()
    status, _, answer = served.ask(method, target, body, **headers)
    seconds = time.monotonic() - began
    assert status == 200, answer
    assert seconds < PROMPT_SECONDS_MAX, f"{method} {target} took {seconds:.1f} s"
    document: dict = json.loads(answer)
    return document


# --- Far too many at once ------------------------------------------------------------


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for a thousand connections, here and in the servers started here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if wanted < DESCRIPTORS // 2:
        pytest.skip(f"this system allows only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousand_connections_at_once_are_all_answered(many_descriptors, served):
    assert write(served, "there", 0) == 200
    warm_up(served)
    before = resources(served)
    reads = [read_request("there")] * 500
    writes = [write_request(f"key-{number}", number) for number in range(500)]

    answers = all_at_once(
        served, [each for two in zip(writes, reads, strict=True) for each in two]
    )

    statuses = [check_served_or_overloaded(answer) for answer in answers]
    assert statuses.count(200) >= 1
    check_writes(served, statuses[::2])
    settle(served, before)
    assert write(served, "after", 1) == 200


def test_requests_beyond_the_limit_are_served_or_told_to_come_back(
    many_descriptors, tmp_path
):
    flags = ("--storage", "memory", "--max-concurrent-requests", 4)
    with Served(tmp_path, *flags) as served:
        writes = [write_request(f"key-{number}", number) for number in range(300)]

        answers = all_at_once(served, writes)

        statuses = [check_served_or_overloaded(answer) for answer in answers]
        assert statuses.count(200) >= 1
        check_writes(served, statuses)
        assert write(served, "after", 1) == 200


def check_writes(served: Served, statuses: list[int]) -> None:
    """Who was told 200 finds the write, and who was told 503 nothing of it."""
    for number, status in enumerate(statuses):
        found, _, body = served.ask("GET", f"/read/key-{number}")
        assert (status, found) in ((200, 200), (503, 404)), number
        if found == 200:
            assert json.loads(body)["value"] == number


def check_served_or_overloaded(answer: Answer) -> int:
    """Its status: 200, or a 503 that says when to come back."""
    if answer.status != 200:
        assert answer.status == 503, answer
        assert answer.headers["content-type"] == PROBLEM
        assert answer.document["code"] == "overloaded"
        assert answer.document["definite"] is True
        assert int(answer.headers["retry-after"]) >= 1
    return answer.status


def all_at_once(served: Served, requests: list[bytes]) -> list[Answer]:
    """One answer to each request, all of them sent once all are connected."""

    async def everything() -> list[bytes]:
        gate = asyncio.Event()
        waiting = asyncio.Semaphore(0)
        tasks = [
            asyncio.create_task(_one(served.port, request, gate, waiting))
            for request in requests
        ]
        for _ in requests:
            await waiting.acquire()
        gate.set()
        return list(await asyncio.gather(*tasks))

    received = asyncio.run(everything())
    dropped = [number for number, data in enumerate(received) if not data]
    assert not dropped, f"{len(dropped)} of {len(requests)} got no answer"
    return [answer for data in received for answer in answers_in(data, "GET")]


async def _one(
    port: int, request: bytes, gate: asyncio.Event, waiting: asyncio.Semaphore
) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    finally:
        waiting.release()
    try:
        await gate.wait()
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def write(served: Served, key: str, value: object) -> int:
    """Write one key; the status."""
    body = json.dumps({"key": key, "value": value}).encode()
    return served.ask("POST", "/write", body, Content_Type=JSON)[0]


def write_request(key: str, value: int) -> bytes:
    """A write on a connection of its own."""
    body = json.dumps({"key": key, "value": value}).encode()
    return (
        b"POST /write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    ) % (len(body), body)


def read_request(key: str) -> bytes:
    """A read on a connection of its own."""
    line = f"GET /read/{key} HTTP/1.1\r\n"
    return line.encode() + b"Host: localhost\r\nConnection: close\r\n\r\n"


# --- What a server holds -------------------------------------------------------------


def warm_up(served: Served) -> None:
    """Some requests at a time, so that what grows on demand has grown."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: promptly(served, "GET", "/nodes"), range(64)))


def resources(served: Served) -> tuple[int, int]:
    """Threads and file descriptors of the server; zeros where there is no /proc."""
    folder = PROC / str(served.process.pid)
    if not folder.exists():
        return 0, 0
    return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def settle(served: Served, before: tuple[int, int]) -> None:
    """Wait until the server holds about as much as before."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        threads, descriptors = resources(served)
        if (
            threads <= before[0] + THREADS_SLACK
            and descriptors <= before[1] + DESCRIPTORS_SLACK
        ):
            return
        time.sleep(0.1)
    raise AssertionError(f"it holds {resources(served)}, and before it held {before}")
