"""The store without its counting of requests: what that counting is measured beside.

`python -m benchmarks.uncounted --storage memory ...` takes the flags of `run.py`. The
product has no switch for this; here the one method that counts is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from app import StoreApp, create_app
from config import Settings
from flags import load_settings
from processes.server import HOST
from processes.signals import Stop
from web.logs import configure
from web.server import Server, leave, listen

GRACE_SECONDS = 3.0  # for requests that run when a stop is asked


def create_uncounted(settings: Settings) -> StoreApp:
    """The application as it is, but for its counter, which does nothing."""
    app = create_app(settings)
    app.metrics.count = _nothing  # type: ignore[method-assign]
    return app


def _nothing(method: str, labels: tuple[str, str], status: str, seconds: float) -> None:
    """Count nothing."""


def main(arguments: Sequence[str]) -> int:
    """Serve on 127.0.0.1."""
    settings = load_settings(arguments)
    configure(settings)
    listener = listen(HOST, settings.port)
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    app = create_uncounted(settings)
    server = Server(app, listener, settings)
    with Stop() as stop:
        server.run(stop, lambda: print(address, flush=True), GRACE_SECONDS)
    app.close()
    return leave()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
