"""A request that takes too long: what its client gets, and what is counted of it."""

import http.client
import json
import re
import threading
import time
from contextlib import closing

import pytest

from app import create_app
from config import Settings
from processes.signals import Stop
from web.server import Server, listen

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture
def late(monkeypatch):
    """Serves a store whose pages of records take 1.6 seconds, of which 0.5 are allowed."""
    app = create_app(Settings(storage="memory", request_seconds=0.5))
    real = app.store.records

    def slow(*given):
        time.sleep(1.6)
        return real(*given)

    monkeypatch.setattr(app.store, "records", slow)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = Server(app, listener, app.store.settings)

    def during(use):
        """Serve while `use(ask)` runs beside; the server wants this thread."""
        failed = []

        def ask(path, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            with closing(connection):
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.headers), answer.read()

        def run():
            try:
                use(ask)
            except BaseException as error:
                failed.append(error)
            finally:
                stop.ask()

        beside = threading.Thread(target=run)
        with Stop() as stop:
            assert server.run(stop, beside.start, 3)
        beside.join()
        app.close()
        if failed:
            raise failed[0]

    return during


def test_late_request_is_504_under_its_own_name_and_counted_once(late):
    def use(ask):
        status, headers, text = ask("/records", **{"X-Request-Id": "mine"})
        assert status == 504
        assert json.loads(text)["code"] == "timeout"
        assert headers["x-request-id"] == "mine"
        time.sleep(2)  # until the work is over too
        name = "kv_http_request_duration_seconds"
        _, _, page = ask(f"/metrics?name[]={name}_count&name[]={name}_sum")
        counted = re.findall(rf"{name}_(\w+){{(.*?)}} (\S+)", page.decode())
        records = [
            (what, float(value))
            for what, labels, value in counted
            if "records" in labels
        ]
        assert ("count", 1.0) in records
        assert len(records) == 2
        assert 0.5 <= dict(records)["sum"] < 1.5
        assert 'route="/records",status="504"' in page.decode()

    late(use)


def test_others_are_answered_while_one_is_late(late):
    def use(ask):
        beside = threading.Thread(target=ask, args=("/records",))
        beside.start()
        assert [ask("/nodes")[0] for _ in range(20)] == [200] * 20
        beside.join()

    late(use)
