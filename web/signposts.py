"""Where a path that no route has was probably meant to go: the text of that 404.

A slash too many or too few, other capitals, a part that is missing or of another kind, a
slip of the pen in the first word: each names the route that is near. The answer stays 404:
to guess and go there would answer for what was not asked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from werkzeug.exceptions import NotFound

from web.routes import Route

_NEAR = 0.7  # of 1: how alike the first words are, as difflib measures it
_SHOWN_MAX = 100  # characters of a path
_PART = re.compile(r"<(?:\w+:)?\w+>")


class _Sign(NamedTuple):
    method: str
    word: str  # the path up to its first part, without slashes: nodes
    part: str  # what follows, as Flask writes it, or nothing: <int:node_id>
    template: str

    def path_with(self, rest: str) -> str | None:
        """The path of this route that has `rest` after its word, if there is one."""
        if self.part.startswith(("<key:", "<path:")):
            return f"/{self.word}/{rest}" if rest else None
        rest = rest.strip("/ ")
        if not self.part:
            return None if rest else f"/{self.word}"
        fits = rest.isdecimal() if self.part.startswith("<int:") else "/" not in rest
        return f"/{self.word}/{rest}" if rest and fits else None


class Signposts:
    """Points from wrong paths to the routes of a table."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._signs = [_sign(route) for route in routes]
        self._words = sorted({sign.word for sign in self._signs})

    def no_route(self, method: str, path: str) -> NotFound:
        """The error for a path that no route has, with the route that is near it."""
        near = self._near("GET" if method == "HEAD" else method, path)
        hint = "/docs lists them all" if near is None else f"did you mean {near}?"
        return NotFound(f"no such route: {_shown(path)}; {hint}")

    def _near(self, method: str, path: str) -> str | None:
        """The nearest route, as `GET /nodes`: first by its method, then by its parts."""
        first, _, rest = path.lstrip("/").partition("/")
        word = first.strip().lower()
        if not path.startswith("/") or word not in self._words:
            found = difflib.get_close_matches(word[:_SHOWN_MAX], self._words, 1, _NEAR)
            if not found:
                return None
            word = found[0]
        fitting = [
            (sign.method == method, place is not None, sign, place)
            for sign in self._signs
            if sign.word == word
            for place in (sign.path_with(rest),)
        ]
        *_, sign, place = max(fitting, key=lambda each: each[:2])
        return f"{sign.method} {_shown(place or sign.template)}"


def _sign(route: Route) -> _Sign:
    word = _PART.split(route.path)[0].strip("/")
    part = _PART.search(route.path)
    return _Sign(route.method, word, part[0] if part else "", route.template)


def _shown(path: str) -> str:
    return path if len(path) <= _SHOWN_MAX else f"{path[:_SHOWN_MAX]}..."
