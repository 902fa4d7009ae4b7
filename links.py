"""Variables that Kubernetes and Docker put beside a container, for each Service or link.

They begin with the name of the Service, in capitals: one that is called `kv` has variables
that begin like our settings. Both the name and the value must have the form of such a
variable, so that a setting is never taken for one.

https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
https://docs.docker.com/engine/network/links/#environment-variables
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

_PORT_MAX = 65_535
_ENV = re.compile(r"(.+?)_ENV_.+", re.DOTALL)


def is_of_link(name: str, environ: Mapping[str, str]) -> bool:
    """True if a variable of the environment tells of a Service or of a linked container.

    A linked container's own variables are handed on with any value. They are told by the
    link's other variable, which has the form `/container/alias`.
    """
    text = environ[name]
    if any(form.fullmatch(name) and fits(text) for form, fits in _FORMS.items()):
        return True
    passed_on = _ENV.fullmatch(name)
    return passed_on is not None and _is_path(environ.get(f"{passed_on[1]}_NAME", ""))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 1 <= int(text) <= _PORT_MAX


def _is_protocol(text: str) -> bool:
    return text in ("tcp", "udp", "sctp")


def _is_url(text: str) -> bool:
    """True for `tcp://10.0.0.1:5000`; an address of IPv6 may have its brackets or not."""
    protocol, _, place = text.partition("://")
    address, _, port = place.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return _is_protocol(protocol) and _is_address(address) and _is_port(port)


def _is_path(text: str) -> bool:
    return re.fullmatch("/[^/]+/[^/]+", text) is not None


_PROTOCOL = "_PORT_[0-9]{1,5}_(TCP|UDP|SCTP)"
# The end of the name, after that of the Service or link, and what its value has to be.
_FORMS: Mapping[re.Pattern[str], Callable[[str], bool]] = {
    re.compile(f"[A-Z0-9_.]+?{end}"): fits
    for end, fits in {
        "_SERVICE_HOST": _is_address,
        "_SERVICE_PORT(_[A-Z0-9_]+)?": _is_port,
        "_PORT": _is_url,
        f"{_PROTOCOL}(_START|_END)?": _is_url,
        f"{_PROTOCOL}_PROTO": _is_protocol,
        f"{_PROTOCOL}_PORT(_START|_END)?": _is_port,
        f"{_PROTOCOL}_ADDR": _is_address,
        "_NAME": _is_path,
    }.items()
}
