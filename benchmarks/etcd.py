"""etcd, the peer of the durable store: clusters of it that are ours to start and to end.

Version 3.4 or newer. A member is a process of its own with every setting of weight at its
default, which is: synced to disk before a put is answered, and read linearizably. Ports
are free ones of 127.0.0.1, and the data lie on the disk of the store that is measured
beside it, until the end.
https://etcd.io/docs/v3.4/op-guide/configuration/
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.load import Load, Tally
from benchmarks.service import temporary_folder
from benchmarks.turns import drive
from processes.server import HOST, ProcessFailed, Server, answers

PROGRAM = "etcd"
HOW_TO_INSTALL = "on Debian or Ubuntu: apt-get install etcd-server"
IN_WORDS = {1: "one", 3: "three"}
# Without it 64-bit ARM is refused by versions that Debian has.
ARCHITECTURE = "ETCD_UNSUPPORTED_ARCH"
STATUS_SECONDS_MAX = 10.0


def program() -> str | None:
    """Where etcd is installed, None if it is not."""
    return shutil.which(PROGRAM)


def name_of(members: int) -> str:
    """What a cluster of so many members is called."""
    return f"{IN_WORDS[members]}-member etcd"


@dataclass(frozen=True)
class Status:
    """What a member says of itself: ids of members, and how many puts it has applied."""

    member: int
    leader: int  # 0 where it knows of none
    revision: int  # grows by one with each put
    version: str


class EtcdCluster:
    """So many members of a new cluster, inside a `with`; a load goes to their leader.

    That is where they are fastest: a follower has to pass each put on to it. What the
    members say is kept in `folder`, and while they run their data too.
    """

    def __init__(self, program: str, members: int, folder: Path) -> None:
        self.name = name_of(members)
        self.version = ""
        self._program = program
        self._members = members
        self._folder = folder
        self._ports: list[int] = []
        self._opened = ExitStack()

    def __enter__(self) -> EtcdCluster:
        with ExitStack() as opened:
            data = Path(opened.enter_context(temporary_folder(self._folder)))
            ports = free_ports(2 * self._members)
            self._ports, peer_ports = ports[: self._members], ports[self._members :]
            commands = commands_of(self._program, data, self._ports, peer_ports)
            servers = [self._server(n, each) for n, each in enumerate(commands)]
            for server in servers:
                opened.callback(server.kill)  # nothing of it is wanted any more
                server.launch()
            for server, port in zip(servers, self._ports, strict=True):
                server.wait_for(partial(answers, port, "/health"))
            self.version = status_of(self._ports[0]).version
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def bear(self, load: Load) -> Tally:
        """Let a load run; what became of it. A put that is not there is a failure."""
        port, before = self._leader()
        tally = drive(replace(load, port=port, dialect="etcd"))
        if load.operation == "write":
            tally = audited(tally, status_of(port).revision - before.revision)
        return tally

    def _leader(self) -> tuple[int, Status]:
        """The port of the leader, which may be another one than a while ago."""
        for port in self._ports:
            status = status_of(port)
            if status.leader == status.member:
                return port, status
        raise ProcessFailed(f"{self.name} has no leader")

    def _server(self, number: int, command: list[str]) -> Server:
        log = self._folder / f"server-etcd-{self._members}-{number}.log"
        kept = {n: os.environ[n] for n in (ARCHITECTURE,) if n in os.environ}
        return Server(command, log, kept)


def commands_of(
    program: str, data: Path, ports: list[int], peer_ports: list[int]
) -> list[list[str]]:
    """The command of each member; every one has to know all the others."""
    peers = [f"http://{HOST}:{port}" for port in peer_ports]
    cluster = ",".join(f"member-{n}={peer}" for n, peer in enumerate(peers))
    commands = []
    for number, (port, peer) in enumerate(zip(ports, peers, strict=True)):
        flags = {
            "name": f"member-{number}",
            "data-dir": data / f"member-{number}",
            "listen-client-urls": f"http://{HOST}:{port}",
            "advertise-client-urls": f"http://{HOST}:{port}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": cluster,
            "initial-cluster-token": data.name,
            "logger": "zap",
            "log-level": "warn",
        }
        commands.append([program, *(f"--{n}={text}" for n, text in flags.items())])
    return commands


def audited(tally: Tally, applied: int) -> Tally:
    """The tally of a load of writes, if at least as many were applied as acknowledged."""
    missing = tally.answers - applied
    if missing <= 0:
        return tally
    reason = f"{tally.answers} puts were acknowledged and {applied} applied"
    return replace(
        tally,
        failures=tally.failures + missing,
        first_failure=tally.first_failure or reason,
    )


def status_of(port: int) -> Status:
    """What the member at this port says of itself. Raises ProcessFailed."""
    connection = http.client.HTTPConnection(HOST, port, timeout=STATUS_SECONDS_MAX)
    try:
        connection.request("POST", "/v3/maintenance/status", b"{}")
        answer = json.loads(connection.getresponse().read())
        header = answer["header"]
        return Status(
            member=int(header["member_id"]),
            leader=int(answer.get("leader", 0)),
            revision=int(header["revision"]),
            version=answer["version"],
        )
    except (OSError, http.client.HTTPException, LookupError, ValueError) as error:
        raise ProcessFailed(f"an etcd member tells no status: {error!r}") from error
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1 that nobody listens on just now, no two the same."""
    with ExitStack() as held:
        sockets = [
            held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]
