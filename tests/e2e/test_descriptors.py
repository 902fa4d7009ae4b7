"""A real server that may open few files, with more connections than it has room for."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import served as served_module
from tests.e2e.served import Served, command, environment

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]
LOOK_SECONDS = 2.0
IDLE_CPU_SECONDS_MAX = 0.5  # of a core, in that time


def limited(most: int) -> Callable[[], None]:
    """What lets a child process open so many files."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cpu_seconds(server: Served) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2]
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def ask(connection: socket.socket, method: str, path: str, body: bytes = b"") -> bytes:
    """The status line of the answer to one request on a connection that is kept."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.settimeout(20)
    connection.sendall(head.encode() + body)
    return connection.recv(65_536).partition(b"\r\n")[0]


@pytest.mark.parametrize("limit", [100, 400])
def test_more_connections_than_files_leave_the_store_to_its_work(
    tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(served_module, "hear", limited(limit))
    with Served(tmp_path) as server, server.connect() as ours:
        assert ask(ours, "GET", "/healthz").endswith(b" 200 OK")
        idle = [server.connect() for _ in range(limit * 2)]
        began = cpu_seconds(server)
        time.sleep(LOOK_SECONDS)

        assert cpu_seconds(server) - began < IDLE_CPU_SECONDS_MAX
        for method, path, body in (
            ("GET", "/healthz", b""),
            ("POST", "/write", b'{"key":"k","value":1}'),
            ("POST", "/fail/0", b'{"mode":"wipe"}'),
            ("POST", "/write", b'{"key":"k","value":2}'),
            ("POST", "/recover/0", b""),
            ("GET", "/readyz", b""),
            ("GET", "/metrics", b""),
        ):
            assert ask(ours, method, path, body).endswith(b" 200 OK"), path
        for connection in idle:
            connection.close()
        assert server.ask("GET", "/read/k")[0] == 200
        said = server.log.read_text("utf-8")
    assert said.count("max_connections is ") == 1
    assert "Too many open files" not in said


def test_limit_too_low_to_serve_is_one_line_before_anything_is_opened(tmp_path):
    done = subprocess.run(
        command("--port", 0),
        cwd=tmp_path,
        env=environment(),
        preexec_fn=limited(40),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "limit=40" in line
    assert "allow at least " in line
    assert list(tmp_path.iterdir()) == []
