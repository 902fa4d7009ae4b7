"""Headers that would change what a request means, and are not done here: refused.

What a header asks for is done, refused, or makes no difference; it is never dropped. These
make no difference, so they may stand there:

- `Range`, `If-Range`: a server may always answer with the whole (RFC 9110, 14.2, 13.1.5).
- `If-Modified-Since`, and `If-Unmodified-Since` on a read: to be ignored where there is no
  date to compare with (13.1.3, 13.1.4). On a change the second is refused: whoever sends it
  wants nothing to be overwritten.
- `Prefer`: one that is not known is to be ignored (RFC 7240, section 2).
- `Content-Digest`, `Repr-Digest`, `Digest`, `Content-MD5`: the body means the same with or
  without them, and to check them is left to the receiver (RFC 9530, section 2).
- `X-Original-URL`, `X-Forwarded-...`: proxies tell with them what they were asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import InvalidRequest
from web.problems import ExpectationFailed

_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
_CONDITIONS = (
    'a condition goes with POST /write (If-Match: "<version>", If-None-Match: *), '
    'DELETE /delete (If-Match) or GET /read (If-None-Match: "<version>")'
)


class Refused:
    """Those of one route, which takes the conditions that it names in `taken`."""

    def __init__(self, method: str, path: str, taken: Sequence[str]) -> None:
        conditions = {"If-Match"}
        if method != "GET":
            conditions |= {"If-None-Match", "If-Unmodified-Since"}
        why = {
            **dict.fromkeys(_OVERRIDES, "send the method itself, in the request line"),
            "Content-Range": "a body is sent whole",
            **dict.fromkeys(conditions.difference(taken), _CONDITIONS),
        }
        self._details = tuple(
            (_variable(name), f"cannot {method} {path} when {name} is given: {text}")
            for name, text in why.items()
        )

    def check(self, environ: Mapping[str, Any]) -> None:
        """Raise InvalidRequest or ExpectationFailed for what the route would not do."""
        for variable, detail in self._details:
            if variable in environ:
                raise InvalidRequest(detail)
        check_expect(environ.get("HTTP_EXPECT"))


def check_expect(text: str | None) -> None:
    """ExpectationFailed where the client waits for more than that it may go on."""
    names = [] if text is None else [name.strip().lower() for name in text.split(",")]
    if not {"", "100-continue"}.issuperset(names):
        raise ExpectationFailed(
            f"cannot do what Expect asks for (got {text!r}): 100-continue, or leave it out"
        )


def _variable(name: str) -> str:
    """How the WSGI environment calls a header."""
    return "HTTP_" + name.upper().replace("-", "_")
