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

from backends.endpoints import Endpoints
from backends.gateway import EtcdError, NoAnswer, NotSent, Security
from backends.local_program import ARCHITECTURE, EtcdMissing, flags_of, installed
from backends.local_state import SavedCluster, client_url, new_cluster
from backends.messages import STATUS, Empty, Status
from benchmarks.figures import Bar, Figure, not_measured
from benchmarks.load import Load, Tally
from benchmarks.service import temporary_folder
from benchmarks.turns import drive
from processes.server import ProcessFailed, Server, answers

HOW_TO_INSTALL = "on Debian or Ubuntu: apt-get install etcd-server"
IN_WORDS = {1: "one", 3: "three"}
TUNED = ("snapshot-count", "auto-compaction-mode", "auto-compaction-retention")
STATUS_SECONDS_MAX = 10.0


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
        url, before = self._leader()
        port = self.ports[self.urls.index(url)]
        load = replace(load, ports=(port,), dialect=self._dialect)
        return self._audited(load, url, before)

    def bear_behind(self, load: Load) -> Tally:
        """The same for a load that goes to somebody who passes it on to here."""
        return self._audited(load, *self._leader())

    def _audited(self, load: Load, url: str, before: Status) -> Tally:
        tally = drive(load)
        if load.operation == "write":
            applied = status_of(url).header.revision - before.header.revision
            tally = audited(tally, applied)
        return tally

    def _leader(self) -> tuple[str, Status]:
        """The URL of the leader, which may be another one than a while ago."""
        for url in self.urls:
            status = status_of(url)
            if status.leader == status.header.member_id:
                return url, status
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
    nobody = Endpoints((), Security(), STATUS_SECONDS_MAX)
    try:
        return nobody.ask_one(url, STATUS, Empty(), Status, STATUS_SECONDS_MAX)
    except (NotSent, NoAnswer, EtcdError) as error:
        raise ProcessFailed(f"an etcd member tells no status: {error!r}") from error
