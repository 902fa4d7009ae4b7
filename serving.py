"""`python run.py [serve] [flags]`: the settings, the store and the server, wired.

Exit status: 0 stopped in good order, 1 that took too long, 2 set up wrongly, with one
line that says what to do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress

import apsw

from access import KEEP, cannot
from app import create_app
from config import WILDCARDS, CannotOpen, Settings
from descriptors import within_files
from engine import Scheme
from flags import load_settings, passed_over
from models import NodeInfo
from processes.signals import Stop
from web.logs import configure
from web.server import Server, leave, listen

GRACE_SECONDS = 3.0  # for requests that run when a stop is asked
log = logging.getLogger(__name__)


def main(argv: Sequence[str], stop: Stop) -> int:
    """Serve until a stop is asked for, then finish what runs and close the store.

    One that comes while the store is opened lets it open, closes it, and serves nothing.
    """
    try:
        settings = load_settings(argv)
        listener = listen(settings.host, settings.port)
        configure(settings)
        _tell_passed_over()
        try:
            settings = within_files(settings)
            app = create_app(settings)
        except BaseException:
            listener.close()
            raise
    except CannotOpen as error:
        return _complain(str(error))
    except (OSError, apsw.Error) as error:
        instead = "use another --data-dir"
        return _complain(cannot(KEEP, settings.data_dir, error, instead))
    port = listener.getsockname()[1]
    server = Server(app, listener, settings)
    text = greeting(settings, app.store.scheme, port, app.store.nodes())
    finished = server.run(stop, lambda: _say(text), GRACE_SECONDS)
    app.close()
    if not finished:
        log.warning(
            "requests were still running at the end; their clients got no answer"
        )
    return leave()


def greeting(
    settings: Settings, scheme: Scheme, port: int, nodes: Sequence[NodeInfo]
) -> str:
    """What a person wants to know at the start, on one screen."""
    spread = f"{len(nodes)} nodes, each key on {scheme.replicas} of them ({scheme.placement}), "
    if not nodes:
        spread = "no node answers yet, and until one does keys are 503; "
    second = "-X POST {url}/fail/0" if scheme.fail_modes else "{url}/nodes"
    name = "127.0.0.1" if settings.host in WILDCARDS else settings.host
    url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    token = (
        ""
        if settings.api_token is None
        else ' -H "Authorization: Bearer $KV_API_TOKEN"'
    )
    return f"""
Key-value store on {url}  (open it in a browser: break it, and see what survives)

  {spread}{scheme.protocol}, {settings.consistency}
  {scheme.survival}{_not_up(nodes)}

  curl -X POST {url}/write{token} -H 'Content-Type: application/json' \
-d '{{"key":"greeting","value":"hello"}}'
  curl {second.format(url=url)}{token}
  curl {url}/read/greeting{token}

Stop with Ctrl-C.
"""


def _not_up(nodes: Sequence[NodeInfo]) -> str:
    """Which nodes do not serve; of those with a problem, what it is."""
    lines = [
        f"\n  not up: node {node.node_id}, {node.problem}"
        for node in nodes
        if node.status != "up" and node.problem
    ]
    absent = [n.node_id for n in nodes if n.status != "up" and not n.problem]
    if absent:
        names = ", ".join(map(str, absent))
        lines.append(
            f"\n  not up: node{'s' if len(absent) > 1 else ''} {names}, as before the "
            f"start: POST /recover/{absent[0]} brings one back"
        )
    return "".join(lines)


def _tell_passed_over() -> None:
    names = passed_over()
    if names:
        log.info(
            "passed over, as they tell of a Service or a linked container and are no "
            "settings: %s",
            ", ".join(names),
        )


def _say(text: str) -> None:
    with suppress(OSError):  # nobody need be listening
        print(text, flush=True)


def _complain(line: str) -> int:
    print(f"run.py: {line}", file=sys.stderr)
    return 2
