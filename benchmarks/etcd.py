"""etcd, the peer of the durable store: clusters of it that are ours to start and to end.

Members are run as the local ones of a front are, on free ports of 127.0.0.1, but every
setting of weight is at its default: synced to disk before a put is answered, and read
linearizably. The data lie on the disk of the store that is measured beside it, until the
end. https://etcd.io/docs/v3.4/op-guide/configuration/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from backends.endpoints import Endpoints
from backends.gateway import EtcdError, NoAnswer, NotSent, Security
from backends.local_program import ARCHITECTURE, EtcdMissing, flags_of, installed
from backends.local_state import SavedCluster, client_url, new_cluster
from backends.messages import RANGE, STATUS, Empty, Message, Range, RangeAnswer, Status
from benchmarks.figures import Bar, Figure, not_measured
from benchmarks.load import Load, Tally
from benchmarks.service import temporary_folder
from benchmarks.turns import drive
from processes.server import ProcessFailed, Server, answers

HOW_TO_INSTALL = "on Debian or Ubuntu: apt-get install etcd-server"
IN_WORDS = {1: "one", 3: "three"}
TUNED = ("snapshot-count", "auto-compaction-mode", "auto-compaction-retention")
ANSWER_SECONDS_MAX = 10.0
EVERY_KEY = Range(b"\0", b"\0", keys_only=True)  # as etcd understands it

T = TypeVar("T")


def program() -> str | None:
    """Where etcd is installed, None if it is not."""
    try:
        return installed()
    except EtcdMissing:
        return None


def without_etcd(bars: Mapping[str, Bar | None]) -> list[Figure]:
    """Every line by its title, and that it could not be measured."""
    why = f"etcd is not installed; {HOW_TO_INSTALL}"
    return [not_measured(title, "×", bar, why) for title, bar in bars.items()]


def name_of(members: int) -> str:
    """What a cluster of so many members is called."""
    return f"{IN_WORDS[members]}-member etcd"


class EtcdCluster:
    """So many members of a new cluster, inside a `with`; a load goes to their leader.

    That is where they are fastest: a follower has to pass each put on to it. What the
    members say is kept in `folder`, and while they run their data too.
    """

    def __init__(
        self, program: str, members: int, folder: Path, dialect: str = "etcd"
    ) -> None:
        self.name = name_of(members)
        self.version = ""
        self._program = program
        self._folder = folder
        self._dialect = dialect
        self._cluster = new_cluster(members)
        self._opened = ExitStack()

    def __enter__(self) -> EtcdCluster:
        with ExitStack() as opened:
            data = Path(opened.enter_context(temporary_folder(self._folder)))
            commands = commands_of(self._program, data, self._cluster)
            servers = [self._server(n, each) for n, each in enumerate(commands)]
            for server in servers:
                opened.callback(server.kill)  # nothing of it is wanted any more
                server.launch()
            for server, port in zip(servers, self.ports, strict=True):
                server.wait_for(partial(answers, port, "/health"))
            self.version = status_of(self.urls[0]).version
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def ports(self) -> list[int]:
        """Where each member answers clients."""
        return [each.client_port for each in self._cluster.members.values()]

    @property
    def urls(self) -> list[str]:
        """The same as URLs."""
        return [client_url(each) for each in self._cluster.members.values()]

    def bear(self, load: Load) -> Tally:
        """Let a load run; what became of it. A put that is not there is a failure."""
        port = self.ports[self.urls.index(self._leader())]
        return self.bear_behind(replace(load, ports=(port,), dialect=self._dialect))

    def bear_behind(self, load: Load) -> Tally:
        """The same for a load that goes to somebody who passes it on to here."""
        if load.operation != "write":
            return drive(load)
        before = puts_at(self.urls[0])
        tally = drive(load)
        return audited(tally, puts_at(self.urls[0]) - before)

    def _leader(self) -> str:
        """The URL of the leader, which may be another one than a while ago."""
        for url in self.urls:
            status = status_of(url)
            if status.leader == status.header.member_id:
                return url
        raise ProcessFailed(f"{self.name} has no leader")

    def _server(self, number: int, command: list[str]) -> Server:
        members = len(self._cluster.members)
        log = self._folder / f"server-etcd-{members}-{number}.log"
        kept = {n: os.environ[n] for n in (ARCHITECTURE,) if n in os.environ}
        return Server(command, log, kept)


def commands_of(program: str, data: Path, cluster: SavedCluster) -> list[list[str]]:
    """The command of each member; every one has to know all the others."""
    return [
        [
            program,
            *(
                f"--{name}={text}"
                for name, text in flags_of(data, cluster, node_id).items()
                if name not in TUNED
            ),
        ]
        for node_id in cluster.members
    ]


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


def status_of(url: str) -> Status:
    """What the member at this URL says of itself. Raises ProcessFailed."""
    return _ask(url, STATUS, Empty(), Status)


def puts_at(url: str) -> int:
    """How many puts a cluster has applied to its keys, read linearizably.

    Counted by key: puts that came in one transaction have one revision.
    """
    found = _ask(url, RANGE, EVERY_KEY, RangeAnswer)
    return sum(each.version for each in found.kvs)


def _ask(url: str, path: str, message: Message, shape: type[T]) -> T:
    nobody = Endpoints((), Security(), ANSWER_SECONDS_MAX)
    try:
        return nobody.ask_one(url, path, message, shape, ANSWER_SECONDS_MAX)
    except (NotSent, NoAnswer, EtcdError) as error:
        raise ProcessFailed(f"an etcd member does not answer: {error!r}") from error
