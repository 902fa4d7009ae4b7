"""What a planted bug is: a few changes to the store's code, made for a while.

Most are a word or a line of a function's own text, so that the store is otherwise the
real one. If that text is not there any more the bug cannot be planted, and says so.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from unittest.mock import patch

from cluster import node
from simulation.kernel import Kernel

EVENTS_MAX = (
    500_000  # in a run, which has some thousands: then it goes round in circles
)


@dataclass(frozen=True)
class Change:
    """Something of a class or a module to be replaced; `make` gives what by, of what is."""

    owner: Any
    name: str
    make: Callable[[Any], Any]

    def begin(self, stack: ExitStack) -> None:
        """Replace it wherever it is known, until the stack is closed."""
        is_static = isinstance(
            inspect.getattr_static(self.owner, self.name), staticmethod
        )
        assert not is_static, f"{self.name} is no method"
        original = getattr(self.owner, self.name)
        changed = self.make(original)
        stack.enter_context(patch.object(self.owner, self.name, changed))
        if inspect.ismodule(self.owner):
            for module, name in _importers(original):
                stack.enter_context(patch.object(module, name, changed))
        kinds = [
            kind for kind, handler in node._HANDLERS.items() if handler is original
        ]
        stack.enter_context(patch.dict(node._HANDLERS, dict.fromkeys(kinds, changed)))


@dataclass(frozen=True)
class Bug:
    """A store with a bug. `name` says what it does wrong; `source` is who did so before.

    It must be found within `seeds_max` seeds, about four times what it took.
    """

    name: str
    source: str
    seeds_max: int
    changes: tuple[Change, ...]

    @contextmanager
    def plant(self) -> Iterator[None]:
        """The store has the bug as long as this lasts."""
        with ExitStack() as stack:
            impatient = partial(Kernel, events_max=EVENTS_MAX)
            stack.enter_context(patch("simulation.world.Kernel", impatient))
            for change in self.changes:
                change.begin(stack)
            yield


def swap(owner: Any, name: str, by: Any) -> Change:
    """Replace a function by another one."""
    return Change(owner, name, lambda original: by)


def around(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Change:
    """Replace a function by one that `wrap` makes of it."""
    return Change(owner, name, wrap)


def edit(owner: Any, name: str, *pairs: tuple[str, str]) -> Change:
    """Replace a function by itself, with text changed: (what it says, what it is to say)."""
    source_of(getattr(owner, name))  # as it was loaded, should a file change meanwhile
    return Change(owner, name, lambda original: edited(original, *pairs))


def edited(function: Any, *pairs: tuple[str, str]) -> Any:
    """The function with its text changed, in its own module's world."""
    text = source_of(function)
    for old, new in pairs:
        assert text.count(old) == 1, (
            f"{function.__qualname__} has {text.count(old)} times, and not once: {old}"
        )
        text = text.replace(old, new)
    flags = annotations.compiler_flag
    code = compile(text, f"<planted in {function.__qualname__}>", "exec", flags)
    found: dict[str, Any] = {}
    exec(code, function.__globals__, found)
    return found[function.__name__]


@cache
def source_of(function: Any) -> str:
    """The text of a function, from its own margin on."""
    return textwrap.dedent(inspect.getsource(function))


def _importers(value: Any) -> list[tuple[Any, str]]:
    """Every module that has the value under some name, by `from ... import` say."""
    return [
        (module, name)
        for module in list(sys.modules.values())
        if inspect.ismodule(module) and not module.__name__.startswith("_")
        for name, held in list(vars(module).items())
        if held is value
    ]
