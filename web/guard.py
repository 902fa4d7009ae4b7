"""Who may call: known hosts, no other site's pages, and tokens where they are set.

A page that someone has open in a browser can send requests to a server on the same
machine. It cannot choose the Host and Origin headers, so those are what is checked:
Host against a list (a name that was rebound to this address is not on it), Origin
against Host for whatever changes anything. An IP address as Host was not looked up, so it
cannot have been rebound. Health tells nothing that needs keeping, and whoever asks for it
(a load balancer, a supervisor) often sends any Host, or none.
"""

from __future__ import annotations

import hmac
import re

from config import LOOPBACK, WILDCARDS, Settings, is_address
from web.parsing import Environ
from web.problems import Forbidden, Unauthorized, WrongHost

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
OPEN_PATHS = frozenset(("/", "/docs", "/healthz", "/readyz"))  # no token wanted
OPEN_FOLDERS = ("/docs/", "/dashboard/")
HEALTH = frozenset(("/healthz", "/readyz"))  # answered under any Host
# In the WSGI environment: the Host header, where the target of the request is a whole URL.
# That URL's host stands as HTTP_HOST then: it is the one that counts (RFC 9112, 3.2.2).
SENT_HOST = "kv.sent_host"
_SEEN_MAX = 100
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)(?:%[A-Za-z0-9._~-]+)?\]"  # RFC 6874: its zone
    r"|(?P<name>(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?))(?::[0-9]*)?"
)


class Guard:
    """Checks each request before anything else looks at it."""

    def __init__(self, settings: Settings) -> None:
        given = (*LOOPBACK, *settings.allowed_host, settings.host)
        named = {name.lower().removesuffix(".") for name in given} - WILDCARDS
        self._shown = sorted(name for name in named if not is_address(name))
        self._names = frozenset(name.removeprefix(".") for name in self._shown)
        self._domains = tuple(name for name in self._shown if name.startswith("."))
        self._seen: set[str] = set()  # hosts that passed, as they were sent
        self._api_token = _bytes(settings.api_token)
        self._read_token = _bytes(settings.read_token)

    def check(self, environ: Environ) -> None:
        """Raise WrongHost, Forbidden or Unauthorized unless the caller may go on."""
        host: str = environ.get("HTTP_HOST", "")
        if environ.get("PATH_INFO") not in HEALTH:
            self._check_host(host)
            self._check_host(environ.get(SENT_HOST, host))
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            self._check_origin(environ, host)
        if self._api_token is not None:
            self._check_token(environ)

    def _check_host(self, host: str) -> None:
        if host in self._seen:
            return
        if not self._is_known(host):
            raise WrongHost(
                f"this server does not answer to the Host {host!r}: call it by an IP "
                f"address or {', '.join(self._shown)}, or start it with --allowed-host"
            )
        if len(self._seen) < _SEEN_MAX:
            self._seen.add(host)

    def _is_known(self, host: str) -> bool:
        """True for an IP address, and for a name that the settings let in."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        if found["ipv6"] is not None:
            return ":" in found["ipv6"] and is_address(found["ipv6"])
        name = found["name"].lower()
        if is_address(name):
            return True
        name = name.removesuffix(".")  # the root of all names (RFC 1034, 3.1)
        return name in self._names or name.endswith(self._domains)

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
