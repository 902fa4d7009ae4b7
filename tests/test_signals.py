"""Signals that ask this process to end: heard once and for all, or ignored as they were."""

import os
import signal
import threading
from contextlib import suppress
from unittest.mock import Mock

import pytest

from config import Settings
from processes.signals import ENDING, Stop, stoppable, uninterrupted
from web.server import Server


class Ended(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def ends(monkeypatch):
    """The statuses with which the process would have ended."""
    statuses = []

    def end(status):
        statuses.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return statuses


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", ENDING)
def test_signal_that_came_before_the_wait_is_not_waited_for(number):
    with Stop() as stop:
        signal.raise_signal(number)

        stop.wait()

        assert stop.asked


@pytest.mark.usefixtures("heard")
def test_stop_that_another_thread_asks_for_ends_the_wait():
    with Stop() as stop:
        beside = threading.Thread(target=stop.ask)
        beside.start()

        stop.wait()

        beside.join()
    assert stop.asked


@pytest.mark.usefixtures("heard")
def test_stop_may_be_asked_for_more_often_than_anyone_listens():
    with Stop() as stop:
        for _ in range(100_000):  # more than the system keeps for a reader
            stop.ask()

        stop.wait()

        assert stop.asked


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", ENDING)
def test_second_signal_ends_the_process_at_once(ends, number):
    with Stop() as stop:
        signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Ended):
            signal.raise_signal(number)

        assert stop.asked
    assert ends == [128 + number]


@pytest.mark.usefixtures("heard")
def test_stop_that_hangs_ends_the_process_with_another_status(monkeypatch):
    ended = threading.Event()
    statuses = []

    def end(status):
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    with Stop(seconds_max=0) as stop:
        assert not statuses  # nobody has asked
        stop.ask()

        assert ended.wait(30)

    assert statuses == [1]


@pytest.mark.usefixtures("heard")
def test_nothing_of_a_stop_is_left_when_it_is_over(monkeypatch):
    before = [signal.getsignal(number) for number in ENDING]
    running = threading.active_count()

    with Stop() as stop:
        assert [signal.getsignal(number) for number in ENDING] != before
    with suppress(OSError):  # the pipe is closed
        stop.ask()

    assert [signal.getsignal(number) for number in ENDING] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == running


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("ignored", ENDING)
@pytest.mark.parametrize("make", [Stop, stoppable, uninterrupted])
def test_signal_that_was_ignored_at_the_start_stays_ignored(make, ignored):
    signal.signal(ignored, signal.SIG_IGN)  # as nohup does, or a shell for `&`

    with make():
        found = {number: signal.getsignal(number) for number in ENDING}
        signal.raise_signal(ignored)

    assert [n for n, handler in found.items() if handler is signal.SIG_IGN] == [ignored]
    assert signal.getsignal(ignored) is signal.SIG_IGN


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", ENDING)
def test_every_signal_that_ends_a_process_lets_a_command_tidy_up(number):
    with stoppable(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


@pytest.mark.usefixtures("heard")
def test_server_that_was_stopped_before_it_began_serves_nothing_and_lets_go():
    service, listener = Mock(), Mock()
    server = Server(service, listener, Settings(storage="memory"))
    with Stop() as stop:
        stop.ask()

        finished = server.run(stop, service.ready, 0)

    assert finished
    assert [name for name, *_ in service.method_calls] == ["watch"]
    assert [name for name, *_ in listener.method_calls] == ["close"]
