"""The files of /docs: a page of ours and Swagger UI's own, none from another host."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from flask import Response, send_from_directory
from werkzeug.exceptions import NotFound

_OURS = Path(__file__).resolve().parent.parent / "dashboard"
_OUR_FILES = frozenset(("docs.html", "docs.css", "docs.js"))
_SWAGGER_FILES = frozenset(
    ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "favicon-16x16.png")
)
# Swagger UI writes styles into elements and shows its icons as data: addresses.
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_file(name: str) -> Response:
    """One of the files of /docs; NotFound if it has no such file."""
    if name in _OUR_FILES:
        folder = _OURS
    elif name in _SWAGGER_FILES:
        folder = _swagger_folder()
    else:
        raise NotFound("no such page")
    response = send_from_directory(folder, name)
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def _swagger_folder() -> Path:
    """Where the package has the files; it need not be imported for that."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        raise NotFound("the package flask-swagger-ui is not installed")
    return Path(spec.origin).parent / "dist"
