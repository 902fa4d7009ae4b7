"""A real server on a bad day: a disk that takes nothing, a stop in the middle, a second
process, data of another shape. Each is met with a clear answer, and nothing is lost."""

import json
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from storage.file import WRITE_META
from storage.rows import meta_row
from tests.e2e.served import STOP_SECONDS_MAX, Served, command, environment

pytestmark = pytest.mark.slow


def ask(server: Served, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    sent = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content_Type": "application/json"}
    status, _, answer = server.ask(method, target, sent, **headers)
    return status, json.loads(answer)


def write(server: Served, key: str, value: Any) -> tuple[int, Any]:
    return ask(server, "POST", "/write", {"key": key, "value": value})


def statuses(server: Served) -> list[str]:
    return [node["status"] for node in ask(server, "GET", "/nodes")[1]["nodes"]]


def kinds(server: Served) -> list[str]:
    return [event["kind"] for event in ask(server, "GET", "/events")[1]["events"]]


def wait_until(true: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.05)


def refused(folder: Path, *flags: object) -> str:
    """What a start that must fail says, in one line."""
    made = subprocess.run(
        command("--port", 0, *flags),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS_MAX,
        check=False,
    )
    assert made.returncode == 2, made.stderr
    lines = made.stderr.strip().splitlines()
    assert len(lines) == 1, made.stderr
    return lines[0]


def test_disk_that_takes_no_writes_costs_no_reads_and_is_used_again_when_it_does(
    tmp_path,
):
    with Served(tmp_path, "--maintenance-seconds", 1) as server:
        old = {f"old-{n}": "x" * 2_000 for n in range(20)}
        assert {write(server, key, value)[0] for key, value in old.items()} == {200}

        _limit_files(server, 200_000)
        answers = {
            f"new-{n}": write(server, f"new-{n}", "y" * 2_000) for n in range(40)
        }
        codes = {(status, told.get("code")) for status, told in answers.values()}
        refusals = {k for k, (status, _) in answers.items() if status == 503}
        assert codes <= {(200, None), (503, "unavailable"), (504, "uncertain")}
        assert codes != {(200, None)}, "the limit was not reached: nothing is shown"
        for key, value in old.items():
            status, found = ask(server, "GET", f"/read/{key}")
            assert (status, found["value"]) == (200, value)
        problems = [n.get("problem") for n in ask(server, "GET", "/nodes")[1]["nodes"]]
        assert any(problem and "fail" in problem for problem in problems), problems

        _limit_files(server, resource.RLIM_INFINITY)
        for key in refusals:  # definite: it never happened
            assert ask(server, "GET", f"/read/{key}")[0] == 404
        assert {write(server, key, 1)[0] for key in answers} == {200}
        wait_until(lambda: statuses(server) == ["up"] * 3)
        server.stop(signal.SIGKILL)
    with Served(tmp_path) as server:
        assert all(
            ask(server, "GET", f"/read/{key}")[0] == 200 for key in (*old, *answers)
        )


def _limit_files(server: Served, size: int) -> None:
    limit = (size, resource.RLIM_INFINITY)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limit)


def test_stop_in_the_middle_of_a_recovery_is_clean_and_loses_nothing(tmp_path):
    keys = [f"key-{number}" for number in range(20_000)]
    with Served(tmp_path, "--durability", "os", "--max-batch", 20_000) as server:
        ask(server, "POST", "/fail/1", {"mode": "wipe"})
        batch = [{"op": "write", "key": key, "value": 1} for key in keys]
        assert ask(server, "POST", "/batch", {"operations": batch})[0] == 200
        recovery = _begin(server, "POST", "/recover/1")
        wait_until(lambda: "recovery_began" in kinds(server))

        status, seconds = server.stop()

        recovery.close()
        assert (status, seconds < 5.0) == (0, True)
    with Served(tmp_path) as server:
        wait_until(lambda: statuses(server) == ["up"] * 3)
        assert all(ask(server, "GET", f"/read/{key}")[0] == 200 for key in keys[::97])


def _begin(server: Served, method: str, target: str) -> Any:
    """A request whose answer is not waited for."""
    connection = server.connect()
    connection.sendall(
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    return connection


def test_second_signal_ends_it_at_once(tmp_path):
    with (
        Served(tmp_path, "--body-seconds", 60) as server,
        server.connect() as connection,
    ):
        connection.sendall(
            b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)  # waits for that body
        time.sleep(0.3)
        assert server.process.poll() is None

        status, seconds = server.stop(signal.SIGINT)

        assert (status, seconds < 0.5) == (128 + signal.SIGINT, True)


def test_second_process_on_one_folder_is_refused_with_what_to_do(tmp_path):
    with Served(tmp_path) as server:
        write(server, "key", 1)

        line = refused(tmp_path)

        assert "another process has" in line
        assert ask(server, "GET", "/read/key")[0] == 200


def test_folder_of_another_shape_or_a_newer_format_is_refused_and_left_alone(tmp_path):
    with Served(tmp_path) as server:
        write(server, "key", 1)
        server.stop()

    assert "--nodes 3 --replication-factor 2" in refused(tmp_path, "--nodes", 5)
    shape = refused(tmp_path, "--replication-factor", 3)
    assert "--replication-factor 2" in shape
    assert "--data-dir" in shape
    with Served(tmp_path) as server:
        assert ask(server, "GET", "/read/key")[0] == 200
        server.stop()

    file = tmp_path / "data/node-1/records-1.db"
    database = apsw.Connection(str(file))
    database.execute(WRITE_META, meta_row(("format", 99)))
    database.close()
    before = file.read_bytes()
    line = refused(tmp_path)
    assert "format 99" in line
    assert "the version that wrote it" in line
    assert file.read_bytes() == before


def test_folder_of_an_earlier_version_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/node-0.db").write_bytes(b"records")

    assert "earlier" in refused(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "empty", "a file", "flipped"])
def test_node_whose_folder_was_damaged_is_told_of_and_rebuilt(tmp_path, damage):
    keys = [f"key-{number}" for number in range(60)]
    with Served(tmp_path) as server:
        assert {write(server, key, key)[0] for key in keys} == {200}
        server.stop()
    folder = tmp_path / "data/node-1"
    if damage == "flipped":
        file = folder / "records-1.db"
        text = bytearray(file.read_bytes())
        text[text.rindex(b"key-")] ^= 1
        file.write_bytes(text)
    else:
        shutil.rmtree(folder)
    if damage == "empty":
        folder.mkdir()
    if damage == "a file":
        folder.write_text("not a folder")

    with Served(tmp_path) as server:
        for key in keys:
            assert ask(server, "GET", f"/read/{key}")[1]["value"] == key
        if damage == "a file":
            node = ask(server, "GET", "/nodes")[1]["nodes"][1]
            assert (node["status"], "not a folder" in node["problem"]) == ("down", True)
            assert "storage_failed" in kinds(server)
            status, told = ask(server, "POST", "/recover/1")
            assert (status, "not a folder" in told["detail"]) == (503, True)
            folder.unlink()
            assert ask(server, "POST", "/recover/1")[0] == 200
        else:
            found = "damage_found" if damage == "flipped" else "storage_replaced"
            assert found in kinds(server)
        wait_until(lambda: statuses(server) == ["up"] * 3)
        assert ask(server, "POST", "/fail/0")[0] == 200
        for key in keys:
            assert ask(server, "GET", f"/read/{key}")[1]["value"] == key


def test_file_damaged_under_a_running_server_is_found_told_of_and_written_anew(
    tmp_path,
):
    keys = [f"key-{number}" for number in range(60)]
    with Served(tmp_path, "--scrub-rows", 10_000) as server:
        assert {write(server, key, key)[0] for key in keys} == {200}
        log = tmp_path / "data/node-2/records-1.db-wal"
        position = log.read_bytes().rindex(b"key-")
        with log.open("r+b") as file:
            file.seek(position)
            file.write(b"K")

        wait_until(lambda: "damage_found" in kinds(server))

        assert statuses(server) == ["up"] * 3
        assert ask(server, "POST", "/fail/0")[0] == 200
        assert ask(server, "POST", "/fail/1")[0] == 200
        server.stop(signal.SIGKILL)
    shutil.rmtree(tmp_path / "data/node-0")
    shutil.rmtree(tmp_path / "data/node-1")
    with Served(tmp_path) as server:  # node 2 alone has what it had, from its new file
        assert (tmp_path / "data/node-2/records-2.db").exists()
        held = [ask(server, "GET", f"/read/{key}") for key in keys]
        served = [found["value"] for status, found in held if status == 200]
        assert served
        assert set(served) <= set(keys)


def test_body_within_a_raised_limit_is_not_refused_as_too_large(tmp_path):
    limits = ("--max-body-bytes", 40 << 20, "--max-value-bytes", 30 << 20)
    with Served(tmp_path, "--storage", "memory", *limits) as server:
        assert write(server, "large", "v" * (20 << 20))[0] == 200
