"""Small operations for a driver, which say what they do as they do it."""

from typing import Any

from models import Ask, Barrier, Exclusive, Get, Operation
from tests.simulation.small import Driven


def asking(driven: Driven, name: str, times: int = 1, node: int = 0) -> Operation[str]:
    """Ask a node so many times, and say when it begins and ends."""
    driven.say(f"{name} begins")
    for _ in range(times):
        yield Ask((node,), Get("k"))
    driven.say(f"{name} ends")
    return name


def failing(error: Exception) -> Operation[None]:
    yield Ask((0,), Get("k"))
    raise error


def exclusive(driven: Driven, key: str | None, inner: Operation[Any]) -> Operation[Any]:
    outcome = yield Exclusive(key, inner)
    driven.say("the outer one goes on")
    return outcome


def waiting(driven: Driven) -> Operation[None]:
    yield Barrier()
    driven.say("the barrier opens")
