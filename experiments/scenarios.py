"""What the trials do to a store, step by step, and nothing else.

A scenario reads as a script. It judges nothing itself: the session does.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.catalogue import Case, Scenario, Trial
from experiments.session import Session

NEW_KEYS = 5  # written while a node is down


def survive(session: Session, trial: Trial, case: Case) -> None:
    """Write, fail nodes, read: fewer failures than replicas lose nothing."""
    for key in session.new_keys(trial.pairs):
        session.write(key)
    for node in case.failed:
        session.fail(node)
    session.check()


def resync(session: Session, trial: Trial, case: Case) -> None:
    """Write, fail a node, recover it; then its copy alone must be the truth.

    The others fail one after the other, so that first every key is still to be read,
    and in the end exactly those that the recovered node holds.
    """
    (failed,) = case.failed
    for key in session.new_keys(trial.pairs):
        session.write(key)
    session.fail(failed)
    if case.changes:
        change_everything(session, failed)
    session.recover(failed)
    session.check()
    for node in range(trial.shape.nodes):
        if node != failed:
            session.fail(node)
            session.check()
    session.restore()
    session.check()


def change_everything(session: Session, failed: int) -> None:
    """Overwrite, delete and re-create keys that the failed node holds, and others.

    A node that comes back with its old copy would show old values and deleted keys.
    """
    keys = session.expectation.keys
    session.random.shuffle(keys)
    keys.sort(key=lambda key: not session.expectation.is_held_by(key, failed))
    for number, key in enumerate(keys):
        if number % 4 == 0:
            session.write(key)
        elif number % 4 == 1:
            session.delete(key)
        elif number % 4 == 2:
            session.delete(key)
            session.write(key)
    for key in session.new_keys(NEW_KEYS):
        session.write(key)


def time_writes(session: Session, trial: Trial, _case: Case) -> None:
    """Write new keys, one after the other."""
    for key in session.new_keys(trial.pairs):
        session.write(key)


def time_reads(session: Session, trial: Trial, _case: Case) -> None:
    """Write keys, then read each of them once, in another order."""
    keys = session.new_keys(trial.pairs)
    for key in keys:
        session.write(key)
    session.random.shuffle(keys)
    session.check(keys)


SCENARIOS: dict[Scenario, Callable[[Session, Trial, Case], None]] = {
    Scenario.SURVIVAL: survive,
    Scenario.RESYNC: resync,
    Scenario.WRITE_LATENCY: time_writes,
    Scenario.READ_LATENCY: time_reads,
}
