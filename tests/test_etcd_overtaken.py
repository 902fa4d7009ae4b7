"""Two callers who change one member at once: the later one wins, and nothing is acted on
that is not there any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backends import asking, changes
from backends.asking import ADD
from models import StoreError, Unavailable, Uncertain
from tests.test_etcd_changes import Played


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three members of here, of which the engine has heard."""
    monkeypatch.setattr(asking, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(asking, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(changes, "CATCH_UP_SECONDS", 0.2)
    monkeypatch.setattr(changes, "ALONE_SECONDS", 0.05)
    made = Played(is_local=True)
    made.watch.look()
    yield made
    made.watch.close()


def during_the_next_look(play: Any, *others: Callable[[], object]) -> None:
    """Let others be asked, and answered, while somebody looks at the members."""
    look = play.watch.look

    def overtaken(**more: Any) -> Any:
        play.watch.look = look
        found = look(**more)
        for other in others:
            other()
        return found

    play.watch.look = overtaken


class Queue:
    """Stands in for the lock of changes: others are let in before who waits for it."""

    def __init__(self, lock: Any, *others: Callable[[], object]) -> None:
        self._lock = lock
        self._others = list(others)

    def acquire(self, timeout: float) -> bool:
        others, self._others = self._others, []  # they ask for it themselves
        for other in others:
            other()
        taken: bool = self._lock.acquire(timeout=timeout)
        return taken

    def release(self) -> None:
        self._lock.release()


def while_it_waits(play: Any, *others: Callable[[], object]) -> None:
    """Let others be asked, and answered, before the next change gets its turn."""
    play.changes._lock = Queue(play.changes._lock, *others)


def state(play: Any, node_id: int = 1) -> str:
    found: str = play.local.each[node_id].state
    return found


# --- Failed ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wipe", "stop", "pause"])
def test_member_that_was_recovered_is_not_failed_by_who_asked_before(play, mode):
    during_the_next_look(
        play, lambda: play.engine.fail(1, "stop"), lambda: play.engine.recover(1)
    )

    with pytest.raises(Unavailable, match="recovered meanwhile") as told:
        play.engine.fail(1, mode)

    assert told.value.definite
    assert state(play) == "running"
    assert ("wipe", 1) not in play.local.did


def test_data_of_a_member_that_came_back_and_was_stopped_are_not_wiped(play):
    during_the_next_look(
        play,
        lambda: play.engine.fail(1, "stop"),
        lambda: play.engine.recover(1),
        lambda: play.engine.fail(1, "stop"),
    )

    with pytest.raises(Unavailable):
        play.engine.fail(1, "wipe")

    assert state(play) == "stopped"
    play.engine.fail(1, "wipe")  # as it is now
    assert state(play) == "wiped"


def test_wipe_is_done_though_somebody_else_stops_the_member_first(play):
    during_the_next_look(play, lambda: play.engine.fail(1, "stop"))

    play.engine.fail(1, "wipe")

    assert state(play) == "wiped"


def test_other_members_do_not_keep_one_from_being_failed(play):
    play.local.set(2, "stopped")
    during_the_next_look(play, lambda: play.engine.recover(2))

    play.engine.fail(1, "wipe")

    assert (state(play, 1), state(play, 2)) == ("wiped", "running")


# --- Recovered ---------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["running", "stopped"])
@pytest.mark.parametrize("mode", ["stop", "wipe", "pause"])
def test_member_that_was_failed_after_its_recovery_was_asked_for_stays_down(
    play, before, mode
):
    play.etcd.up.discard(2)  # it is not heard: there is something to be done
    if before == "stopped":
        play.local.set(1, "stopped")
    others = [lambda: play.engine.recover(1)] if before == "stopped" else []
    while_it_waits(play, *others, lambda: play.engine.fail(1, mode))

    with pytest.raises(Unavailable, match="failed after that was asked for"):
        play.engine.recover(1)

    assert state(play) in ("stopped", "wiped", "paused")
    assert play.engine.recover(1).status == "up"


def test_member_that_is_wiped_while_it_is_looked_at_is_not_launched_without_data(play):
    play.local.set(1, "stopped")
    during_the_next_look(play, lambda: play.engine.fail(1, "wipe"))

    with pytest.raises(Unavailable):
        play.engine.recover(1)

    assert ("launch", 1) not in play.local.did
    assert state(play) == "wiped"


def test_recovery_of_a_member_that_somebody_else_recovered_is_no_error(play):
    play.local.set(1, "stopped")
    while_it_waits(play, lambda: play.engine.recover(1))

    assert play.engine.recover(1).status == "up"
    assert play.local.did == [("launch", 1)]


def test_recovery_goes_on_from_where_another_one_has_come(play):
    play.local.set(1, "stopped")

    def another() -> None:
        play.engine.recover(1)
        play.engine.fail(1, "stop")
        play.engine.recover(1)
        play.etcd.up.discard(2)  # its process died since

    while_it_waits(play, another)

    assert play.engine.recover(1).status == "up"


def test_member_that_is_failed_while_it_joins_is_told_to_be_half_done(
    play, monkeypatch
):
    play.local.set(1, "wiped")
    numbered = play.changes._add

    def overtaken(url: str, node_id: int | None = None) -> int:
        number: int = numbered(url, node_id)
        play.local.set(1, "stopped")
        play.engine.fail(1, "wipe")
        return number

    monkeypatch.setattr(play.changes, "_add", overtaken)

    with pytest.raises(Uncertain, match="was not started"):
        play.engine.recover(1)

    monkeypatch.undo()
    assert (play.etcd.asked.count(ADD), state(play)) == (1, "wiped")
    assert play.engine.recover(1).status in ("up", "recovering")


# --- A loss ------------------------------------------------------------------------------


def lost_majority(play: Any) -> None:
    for node_id, doing in enumerate(("stopped", "wiped", "wiped")):
        play.local.set(node_id, doing)
    play.etcd.leader = 0
    play.watch.begin_anew()


def test_second_loss_is_not_accepted_by_who_was_told_of_the_first(play):
    lost_majority(play)

    def others() -> None:
        play.engine.recover(1, accept_loss=True)  # without data: all is given up
        play.engine.fail(1, "wipe")  # and what was written since
        lost_majority(play)

    while_it_waits(play, others)

    with pytest.raises(Unavailable, match="nothing is given up"):
        play.engine.recover(0, accept_loss=True)

    assert play.local.did.count(("take_for_truth", 1)) == 1
    assert ("take_for_truth", 0) not in play.local.did
    assert play.kinds().count("loss_accepted") == 1


def test_loss_that_came_after_the_request_is_not_accepted_with_it(play):
    play.local.set(0, "stopped")

    def others() -> None:
        for node_id in (1, 2):
            play.engine.fail(node_id, "wipe")
        lost_majority(play)

    while_it_waits(play, others)

    with pytest.raises(Unavailable):
        play.engine.recover(0, accept_loss=True)

    assert ("take_for_truth", 0) not in play.local.did
    play.engine.recover(0, accept_loss=True)
    assert ("take_for_truth", 0) in play.local.did


# --- Removed -----------------------------------------------------------------------------


def test_member_that_was_recovered_is_not_removed_by_who_asked_before(play):
    play.local.set(1, "stopped")
    while_it_waits(play, lambda: play.engine.recover(1))

    with pytest.raises(Unavailable, match="recovered meanwhile"):
        play.engine.remove_node(1)

    assert ("forget", 1) not in play.local.did
    assert len(play.etcd.members) == 3
    play.engine.remove_node(1)
    assert ("forget", 1) in play.local.did


def test_member_that_is_removed_twice_at_once_is_removed_once(play):
    while_it_waits(play, lambda: play.engine.remove_node(1))

    with pytest.raises(StoreError, match="no such node"):
        play.engine.remove_node(1)

    assert play.local.did == [("forget", 1)]
    assert len(play.etcd.members) == 2
