"""An etcd that is guarded: TLS, certificates of clients, users. What is told of a mistake.

With --client-cert-auth a member's JSON gateway dials the member itself, as a client that
shows the server's own certificate: so that one has to be good for clients too
(extendedKeyUsage clientAuth), or no request gets through; and its common name, which is no
user as long as requests have an Accept header, is better left out.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.gateway import EtcdError, Gateway, NoAnswer, NotSent, Request, Security
from processes.server import Server
from tests.e2e.served import STOP_SECONDS_MAX, Served, command, environment, free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("etcd") is None or shutil.which("openssl") is None,
        reason="etcd or openssl is not installed: apt-get install etcd-server openssl",
    ),
]
PASSWORD = 'tell nobody "7"'
TOLD = "tell nobody"  # the part of it that no escaping changes
WRONG = "tell nobody at all"
ANSWER_SECONDS_MAX = 8.0  # nothing hangs: a request to etcd has 5, and an election 3
READERS, WRITERS = "auditor", "kv"


# --- Certificates ------------------------------------------------------------------------


def openssl(folder: Path, *words: str) -> None:
    made = subprocess.run(
        ["openssl", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def make_authority(folder: Path, name: str) -> None:
    openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", f"{name}.key", "-out", f"{name}.pem",
    )  # fmt: skip


def make_certificate(folder: Path, name: str, use: str, authority: str = "ca") -> None:
    """For 127.0.0.1, and without a common name."""
    openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-subj", f"/O={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    more = folder / f"{name}.ext"
    more.write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={use}\n", "utf-8")
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-days", "2", "-extfile", more.name,
        "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial",
        "-out", f"{name}.pem",
    )  # fmt: skip


# --- The member --------------------------------------------------------------------------


class Guarded:
    """One member of etcd that wants certificates and users, and how to reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_authority(folder, "ca")
        make_authority(folder, "other")
        make_certificate(folder, "server", "serverAuth,clientAuth")
        make_certificate(folder, "client", "clientAuth")
        self.url = f"https://127.0.0.1:{free_port()}"
        self._server = Server(self._command(), folder / "etcd.log")
        certificate = Security(
            *(folder / f"{n}" for n in ("ca.pem", "client.pem", "client.key"))
        )
        self._gateway = Gateway(self.url, certificate)
        self._token = ""

    def start(self) -> None:
        self._server.launch()
        self._server.wait_for(self._answers)

    def restart(self) -> None:
        """With its data, and without the tokens that it gave."""
        self._server.stop()
        self.start()

    def stop(self) -> None:
        self._gateway.close()
        self._server.stop()

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        request = Request(path, json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(
            self._gateway.post(request, 5.0, self._token)
        )
        return answer

    def guard(self) -> None:
        """Users: root, one that may do all under kv/, and one that may only read there."""
        space = {"key": text64("kv/"), "range_end": text64("kv0")}
        for name, may in (("root", None), (WRITERS, "READWRITE"), (READERS, "READ")):
            self.ask("/v3/auth/user/add", name=name, password=PASSWORD)
            self.ask("/v3/auth/role/add", name=name)
            self.ask("/v3/auth/user/grant", user=name, role=name)
            if may is not None:
                self.ask(
                    "/v3/auth/role/grant", name=name, perm={"permType": may, **space}
                )
        self.ask("/v3/auth/enable")
        self.log_in()

    def log_in(self) -> None:
        self._token = ""
        told = self.ask("/v3/auth/authenticate", name="root", password=PASSWORD)
        self._token = told["token"]

    def flags(self, user: str = WRITERS, **changes: object) -> list[object]:
        """What `run.py` is given, without a password."""
        folder = self.folder
        given = {
            "engine": "etcd",
            "etcd_endpoints": self.url,
            "etcd_ca": folder / "ca.pem",
            "etcd_cert": folder / "client.pem",
            "etcd_key": folder / "client.key",
            "etcd_user": user,
            **changes,
        }
        named = {
            f"--{n.replace('_', '-')}": v for n, v in given.items() if v is not None
        }
        return [word for pair in named.items() for word in pair]

    def _answers(self) -> bool:
        try:
            return int(self.ask("/v3/maintenance/status").get("leader", 0)) > 0
        except (NotSent, NoAnswer, EtcdError):
            return False

    def _command(self) -> list[str]:
        peer = f"http://127.0.0.1:{free_port()}"
        flags = {
            "name": "m",
            "data-dir": "etcd.data",
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"m={peer}",
            "cert-file": "server.pem",
            "key-file": "server.key",
            "trusted-ca-file": "ca.pem",
            "client-cert-auth": "true",
            "bcrypt-cost": "4",
        }
        return ["etcd", *(f"--{name}={value}" for name, value in flags.items())]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    member = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        member.start()
        member.guard()
        yield member
    finally:
        member.stop()


Open = Callable[..., Served]


@pytest.fixture
def serve(guarded: Guarded, tmp_path: Path) -> Iterator[Open]:
    """A service in front of it; what is not said is as it should be."""
    made: list[Served] = []

    def start(*, password: str | None = PASSWORD, **changes: object) -> Served:
        variables = {} if password is None else {"KV_ETCD_PASSWORD": password}
        if password is None:
            changes["etcd_user"] = None
        flags = {"tombstone_grace_seconds": 60, **changes}
        made.append(Served(tmp_path, *guarded.flags(**flags), **variables))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for each in made:
        each.__exit__()


def text64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def ask(server: Served, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of an answer, which takes no long time."""
    sent = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content_Type": "application/json"}
    began = time.monotonic()
    status, _, answer = server.ask(method, target, sent, **headers)
    assert time.monotonic() - began < ANSWER_SECONDS_MAX, (method, target, answer)
    return status, json.loads(answer)


def write(server: Served, key: str, value: Any, **more: Any) -> tuple[int, Any]:
    return ask(server, "POST", "/write", {"key": key, "value": value, **more})


def all_refused(server: Served, *words: str) -> None:
    """Whatever is asked of keys is a definite 503 that says why."""
    answers = {
        "write": write(server, "a", 1),
        "write for a time": write(server, "a", 1, ttl=60),
        "read": ask(server, "GET", "/read/a"),
        "stale read": ask(server, "GET", "/read/a?consistency=one"),
        "list": ask(server, "GET", "/keys"),
        "delete": ask(server, "DELETE", "/delete/a"),
    }
    for what, (status, told) in answers.items():
        assert (status, told["definite"]) == (503, True), (what, told)
        for word in words:
            assert word in told["detail"], (what, told)
    status, told = ask(server, "GET", "/readyz")
    assert status == 503
    assert words[0] in json.dumps(told)
    assert ask(server, "GET", "/healthz")[0] == 200


# --- As it should be ---------------------------------------------------------------------


def test_keys_are_kept_in_an_etcd_that_wants_certificates_and_users(serve):
    server = serve()

    assert write(server, "greeting", {"hello": "Zoë"})[0] == 200
    assert write(server, "short", 1, ttl=60)[0] == 200
    status, told = ask(server, "GET", "/read/greeting")
    assert (status, told["value"]) == (200, {"hello": "Zoë"})
    assert ask(server, "DELETE", "/delete/greeting")[0] == 200
    assert ask(server, "GET", "/read/greeting")[0] == 404
    status, told = ask(server, "GET", "/nodes")
    assert [node["status"] for node in told["nodes"]] == ["up"]
    assert told["nodes"][0]["keys"] == 1
    assert ask(server, "GET", "/replicas/short")[0] == 200
    assert ask(server, "GET", "/readyz")[0] == 200
    assert server.stop()[0] == 0


@pytest.mark.parametrize("what", ["the member starts again", "its users change"])
def test_token_that_etcd_no_longer_takes_is_renewed_and_no_request_fails(
    guarded, serve, what
):
    server = serve()
    assert write(server, "renewed", 1)[0] == 200

    if what == "its users change":
        name = f"passing-{time.monotonic_ns()}"
        guarded.ask("/v3/auth/user/add", name=name, password=PASSWORD)
    else:
        guarded.restart()
        guarded.log_in()

    assert write(server, "renewed", 2)[0] == 200
    assert ask(server, "GET", "/read/renewed")[1]["value"] == 2


# --- Mistakes ----------------------------------------------------------------------------


def test_service_that_trusts_another_authority_starts_and_names_the_certificate(
    guarded, serve
):
    server = serve(etcd_ca=guarded.folder / "other.pem")

    all_refused(server, "certificate", guarded.url)
    assert server.stop()[0] == 0


def test_service_without_a_certificate_of_its_own_is_told_of_it(guarded, serve):
    server = serve(etcd_cert=None, etcd_key=None)

    # In TLS 1.3 the client's certificate is looked at after the request has left.
    status, told = write(server, "a", 1)
    assert (status, told["definite"]) in ((503, True), (504, False))
    for _ in range(3):
        for status, told in (write(server, "a", 1), ask(server, "GET", "/read/a")):
            assert status in (503, 504)
            assert "certificate" in told["detail"]
    assert ask(server, "GET", "/readyz")[0] == 503


def test_wrong_password_is_named_and_nothing_hangs_or_shows_it(serve, tmp_path):
    server = serve(password=WRONG)

    all_refused(server, "invalid user ID or password")
    assert server.stop()[0] == 0
    assert TOLD not in server.log.read_text("utf-8")


def test_no_user_at_all_is_told_what_is_missing(serve):
    all_refused(serve(password=None), "user name is empty")


def test_user_that_may_only_read_is_refused_every_change_and_reads(serve):
    writer, reader = serve(), serve(user=READERS)
    write(writer, "seen", 1)

    for status, told in (
        write(reader, "seen", 2),
        write(reader, "seen", 2, ttl=60),
        ask(reader, "DELETE", "/delete/seen"),
    ):
        assert (status, told["definite"]) == (503, True)
        assert "permission denied" in told["detail"]
    assert ask(reader, "GET", "/read/seen")[1]["value"] == 1
    assert ask(writer, "GET", "/read/seen")[1]["value"] == 1


def test_store_under_a_prefix_that_the_user_may_not_touch_is_refused(serve):
    all_refused(serve(etcd_prefix="other/"), "permission denied")


# --- The secret --------------------------------------------------------------------------


def test_password_is_shown_nowhere(serve, tmp_path):
    server = serve(log_level="debug", log_requests="all")
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    shown = {
        "command line": Path(f"/proc/{server.process.pid}/cmdline").read_bytes(),
        "body that is no JSON": server.ask("POST", "/write", b"{")[2],
        "unknown route": server.ask("GET", "/no/such/route")[2],
        "unknown node": server.ask("POST", "/fail/7", b"")[2],
        "help": subprocess.run(
            command("--help"), env=environment() | {"KV_ETCD_PASSWORD": PASSWORD},
            cwd=tmp_path, capture_output=True, check=True,
        ).stdout,
    }  # fmt: skip
    for path, methods in described["paths"].items():
        if "get" in methods:
            target = path.replace("{key}", "a").replace("{node_id}", "0")
            shown[f"GET {target}"] = server.ask("GET", target)[2]
    write(server, "a", 1)
    server.stop()
    shown["log"] = server.log.read_bytes()

    assert len(shown) > 15
    assert WRITERS in shown["GET /config"].decode()
    for where, text in shown.items():
        assert TOLD.encode() not in text, where
        assert text64(PASSWORD).encode() not in text, where


# --- Files that cannot be used -----------------------------------------------------------


@pytest.fixture(scope="module")
def files(guarded: Guarded) -> Path:
    """The folder of all certificates, with some that are of no use."""
    folder = guarded.folder
    (folder / "words.pem").write_text("no certificate at all\n", "utf-8")
    openssl(
        folder, "ec", "-in", "client.key", "-aes128", "-passout", f"pass:{PASSWORD}",
        "-out", "locked.key",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"etcd_ca": "missing.pem"}, "etcd_ca=.*missing.pem: it is not there"),
        ({"etcd_cert": "missing.pem"}, "etcd_cert=.*missing.pem: it is not there"),
        ({"etcd_key": "missing.key"}, "etcd_key=.*missing.key: it is not there"),
        ({"etcd_ca": "."}, "etcd_ca=.*: it is a folder, not a file"),
        ({"etcd_ca": "words.pem"}, "etcd_ca=.*words.pem: .*NO_CERTIFICATE"),
        ({"etcd_cert": "words.pem"}, "etcd_cert=.*words.pem, etcd_key=.*"),
        ({"etcd_key": "server.key"}, "etcd_cert=.*, etcd_key=.*server.key: .*MISMATCH"),
        ({"etcd_key": "locked.key"}, "etcd_cert=.*, etcd_key=.*locked.key: "),
    ],
)
def test_file_that_cannot_be_used_is_told_at_the_start_in_one_line(
    guarded, files, tmp_path, changes, words
):
    paths = {name: files / path for name, path in changes.items()}

    made = subprocess.run(
        command("--port", 0, *guarded.flags(**paths)),
        cwd=tmp_path,
        env=environment() | {"KV_ETCD_PASSWORD": PASSWORD},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS_MAX,
        check=False,
    )

    assert (made.returncode, made.stdout) == (2, "")
    (line,) = made.stderr.splitlines()
    assert re.match(f"run.py: cannot use {words}", line), line
    assert TOLD not in line
