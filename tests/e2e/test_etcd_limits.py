"""An etcd whose own limits are below what a service sends together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from backends.endpoints import Endpoints
from backends.gateway import Security
from backends.keys import Keys
from backends.watch import Quota
from models import Intent, TooLarge
from processes.server import Server, answers
from tests.e2e.etcd_cluster import MARKS
from tests.e2e.served import free_port

pytestmark = MARKS
THREADS = 16
KEYS = [f"k{number:02}" for number in range(200)]
SECONDS_MAX = 5.0

Open = Callable[..., Keys]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Keys in an etcd of one member with these flags."""
    with ExitStack() as stack:

        def play(*flags: str) -> Keys:
            port, peer_port = free_port(), free_port()
            url, peer_url = (f"http://127.0.0.1:{n}" for n in (port, peer_port))
            command = [
                "etcd", f"--data-dir={tmp_path / 'etcd'}",
                f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}", *flags,
            ]  # fmt: skip
            server = Server(command, tmp_path / "etcd.log")
            stack.callback(server.kill)
            server.launch()
            server.wait_for(partial(answers, port, "/health"))
            endpoints = Endpoints((url,), Security(), SECONDS_MAX)
            stack.callback(endpoints.close)
            return Keys(
                endpoints, b"kv/", Quota(), grace_seconds=60.0, seconds=SECONDS_MAX
            )

        yield play


def all_at_once(do: Callable[[str], object], keys: Sequence[str]) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(do, keys))


@pytest.mark.parametrize(
    ("flag", "size"),
    [
        ("--max-request-bytes=100000", 60_000),
        ("--max-request-bytes=100000", 20_000),
        ("--max-txn-ops=8", 100),
        ("--max-txn-ops=1", 100),
    ],
)
def test_what_etcd_takes_one_by_one_is_not_refused_because_it_came_together(
    opened, flag, size
):
    keys = opened(flag)
    value = b'"%s"' % (b"v" * size)

    def write(key: str) -> None:
        keys.change(Intent(key, value))

    def read(key: str) -> bytes:
        found: bytes = keys.read(key, stale=False)[0].value
        return found

    all_at_once(write, KEYS)
    assert all_at_once(read, KEYS) == [value] * len(KEYS)


def test_value_that_etcd_alone_would_refuse_is_refused_and_the_others_are_written(
    opened,
):
    keys = opened("--max-request-bytes=100000")
    large = set(KEYS[::10])

    def write(key: str) -> str:
        value = b'"%s"' % (b"v" * (150_000 if key in large else 100))
        try:
            keys.change(Intent(key, value))
        except TooLarge:
            return "too large"
        return "done"

    told = dict(zip(KEYS, all_at_once(write, KEYS), strict=True))

    assert told == {key: "too large" if key in large else "done" for key in KEYS}
    page = keys.page("", "", len(KEYS))
    assert {each.key for each in page.keys} == set(KEYS) - large
