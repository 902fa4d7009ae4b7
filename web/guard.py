"""Who may call: known hosts, no other site's pages, and tokens where they are set.

A page that someone has open in a browser can send requests to a server on the same
machine. It cannot choose the Host and Origin headers, so those are what is checked:
Host against a list (a name that was rebound to this address is not on it), Origin
against Host for whatever changes anything.
"""

from __future__ import annotations

import hmac
import ipaddress
import re

from config import LOOPBACK, WILDCARDS, Settings
from web.parsing import Environ
from web.problems import Forbidden, Unauthorized, WrongHost

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
OPEN_PATHS = frozenset(("/", "/docs", "/healthz", "/readyz"))  # no token wanted
OPEN_FOLDERS = ("/docs/", "/dashboard/")
_SEEN_MAX = 100
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@,\s]+))(?::[0-9]*)?")


class Guard:
    """Checks each request before anything else looks at it."""

    def __init__(self, settings: Settings) -> None:
        named = {*LOOPBACK, *settings.allowed_host, settings.host} - WILDCARDS
        self._names = frozenset(name.lower() for name in named)
        self._seen: set[str] = set()  # Host headers that passed, as they were sent
        self._api_token = _bytes(settings.api_token)
        self._read_token = _bytes(settings.read_token)

    def check(self, environ: Environ) -> None:
        """Raise WrongHost, Forbidden or Unauthorized unless the caller may go on."""
        host = environ.get("HTTP_HOST", "")
        if host not in self._seen:
            self._check_host(host)
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            self._check_origin(environ, host)
        if self._api_token is not None:
            self._check_token(environ)

    def _check_host(self, host: str) -> None:
        name = _name_of(host)
        if name not in self._names and not _is_loopback(name):
            raise WrongHost(
                f"this server does not answer to the Host {host!r}: call it by "
                f"{', '.join(sorted(self._names))}, or start it with --allowed-host"
            )
        if len(self._seen) < _SEEN_MAX:
            self._seen.add(host)

    def _check_origin(self, environ: Environ, host: str) -> None:
        site = environ.get("HTTP_SEC_FETCH_SITE", "none")
        origin = environ.get("HTTP_ORIGIN")
        ours = tuple(f"{scheme}://{host}".lower() for scheme in ("http", "https"))
        own = origin is None or origin.lower() in ours
        if not own or site not in ("none", "same-origin"):
            raise Forbidden(
                "a page of another site may not change anything here "
                f"(Origin {origin!r}, Sec-Fetch-Site {site!r})"
            )

    def _check_token(self, environ: Environ) -> None:
        path = environ.get("PATH_INFO", "")
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            return
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = given.strip().encode("latin-1", "replace")
        may_all = _equal(token, self._api_token)
        may_read = _equal(token, self._read_token)
        if scheme.lower() != "bearer" or not (may_all or may_read):
            what = "this is not the token" if token else "a token is wanted"
            raise Unauthorized(f"{what}: send the header Authorization: Bearer <token>")
        if not may_all and environ["REQUEST_METHOD"] not in SAFE_METHODS:
            raise Forbidden("this token may only read")


def _bytes(token: str | None) -> bytes | None:
    return token.encode() if token is not None else None


def _equal(given: bytes, token: bytes | None) -> bool:
    """Whether the token is the one, in the same time wherever it differs."""
    return token is not None and hmac.compare_digest(given, token)


def _name_of(host: str) -> str:
    """The name in a Host header, or nothing if it is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found is not None else ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
