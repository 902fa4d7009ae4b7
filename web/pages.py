"""The pages: the dashboard, and /docs with Swagger UI. No file comes from another host."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from flask import Response, send_from_directory
from werkzeug.exceptions import NotFound

_OURS = Path(__file__).resolve().parent.parent / "dashboard"
_DOCS_FILES = frozenset(("docs.html", "docs.css", "docs.js"))
_SWAGGER_FILES = frozenset(
    ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "favicon-16x16.png")
)
_KINDS = frozenset((".html", ".css", ".js", ".svg", ".png"))
_NOWHERE_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    f"img-src 'self'; font-src 'self'; {_NOWHERE_ELSE}"
)
# Swagger UI writes styles into elements and shows its icons as data: addresses.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    f"{_NOWHERE_ELSE}"
)


def page_file(name: str) -> Response:
    """One of the dashboard's files; NotFound if it has no such file."""
    if name not in _page_names():
        raise NotFound("no such page")
    return _file(_OURS, name, _POLICY)


@cache
def _page_names() -> frozenset[str]:
    """The files of the dashboard: whatever is in its folder, but for those of /docs."""
    found = (path for path in _OURS.rglob("*") if path.suffix in _KINDS)
    names = (path.relative_to(_OURS).as_posix() for path in found)
    return frozenset(names) - _DOCS_FILES


def docs_file(name: str) -> Response:
    """One of the files of /docs; NotFound if it has no such file."""
    if name in _DOCS_FILES:
        return _file(_OURS, name, _DOCS_POLICY)
    if name in _SWAGGER_FILES:
        return _file(_swagger_folder(), name, _DOCS_POLICY)
    raise NotFound("no such page")


def _file(folder: Path, name: str, policy: str) -> Response:
    response = send_from_directory(folder, name)
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _swagger_folder() -> Path:
    """Where the package has the files; it need not be imported for that."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        raise NotFound("the package flask-swagger-ui is not installed")
    return Path(spec.origin).parent / "dist"
