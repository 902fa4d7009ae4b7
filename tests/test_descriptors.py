"""Connections leave the files that the rest of the process needs."""

import logging
import resource

import pytest

from config import Settings
from descriptors import TooFewFiles, within_files

OPEN = 6  # standard streams, what hears a stop, what listens
OF_WORK = 8 + 20  # of the server's runtime, and one of each thread
THREE_NODES = 3 * 4 + 10
MEMORY = Settings(storage="memory")


@pytest.fixture
def files(monkeypatch):
    """A system that allows so many files: a soft limit and a hard one, which it keeps."""
    limits = [1024, 4096]

    def raised(kind, both):
        assert both[1] == limits[1]
        limits[0] = both[0]

    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", raised)
    monkeypatch.setattr("descriptors._open_now", lambda: OPEN)
    return limits


@pytest.mark.parametrize("limit", [100, 400, 1024])
@pytest.mark.parametrize(
    ("settings", "others"),
    [
        (MEMORY, OF_WORK),
        (Settings(), OF_WORK + THREE_NODES),
        (Settings(threads=2), 8 + 6 + THREE_NODES),
        (Settings(nodes=5), OF_WORK + 5 * 4 + 10),
    ],
)
def test_connections_are_lowered_to_what_nodes_and_work_leave(
    files, caplog, limit, settings, others
):
    files[:] = limit, limit

    found = within_files(settings)

    assert found.max_connections == limit - OPEN - others
    assert found == settings.model_copy(
        update={"max_connections": found.max_connections}
    )
    (line,) = caplog.messages
    assert f"max_connections is {found.max_connections} instead of 4096" in line
    assert f"allow {OPEN + others + 4096} " in line


def test_members_of_etcd_have_a_connection_for_each_thread(files):
    files[:] = 400, 400
    several = "http://a:1,http://b:1,http://c:1,http://d:1,http://e:1"

    three = within_files(Settings(engine="etcd", local_members=3)).max_connections
    five = within_files(
        Settings(engine="etcd", etcd_endpoints=(several,))
    ).max_connections

    assert three == 400 - OPEN - OF_WORK - 10 - 3 * 20 * 2
    assert five == three - 2 * 20 * 2


def test_soft_limit_is_raised_as_far_as_it_is_needed_and_allowed(files, caplog):
    found = within_files(MEMORY)

    assert files == [4096, 4096]
    assert found.max_connections == 4096 - OPEN - OF_WORK

    files[:] = 1024, resource.RLIM_INFINITY
    caplog.clear()

    assert within_files(MEMORY) == MEMORY
    assert files == [4096 + OPEN + OF_WORK, resource.RLIM_INFINITY]
    assert caplog.messages == []


@pytest.mark.parametrize("soft", [100_000, resource.RLIM_INFINITY])
def test_limit_that_is_high_enough_is_left_as_it_is(files, caplog, soft):
    files[:] = soft, resource.RLIM_INFINITY

    with caplog.at_level(logging.DEBUG):
        assert within_files(MEMORY) == MEMORY

    assert files == [soft, resource.RLIM_INFINITY]
    assert caplog.messages == []


def test_limit_that_the_system_does_not_let_be_raised_is_the_one_that_counts(
    files, monkeypatch
):
    def refuse(kind, both):
        raise ValueError("not allowed")

    files[:] = 300, 4096
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert within_files(MEMORY).max_connections == 300 - OPEN - OF_WORK


def test_limit_too_low_for_anything_is_refused_with_the_one_that_would_do(files):
    least = OPEN + OF_WORK + THREE_NODES + 16
    files[:] = least - 1, least - 1

    with pytest.raises(
        TooFewFiles, match=f"limit={least - 1}.*allow at least {least} "
    ):
        within_files(Settings())

    files[:] = least, least
    assert within_files(Settings()).max_connections == 16
