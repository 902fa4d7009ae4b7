"""Members of etcd that this process starts, kills, pauses, wipes and ends.

Here are processes, folders and ports; what a cluster knows of its members (to add one,
to remove one, who leads) is asked for elsewhere, over etcd's API. Every change is saved
before it is done, so that after a crash at any point what is saved can be gone on with.

No member outlives this process, however it dies: the kernel ends them with the *thread*
that started them (processes/leash.py; Linux only). So one thread, the keeper, starts
them all, whoever asks, and lives as long as they do.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from msgspec.structs import replace

from access import KEEP, cannot
from backends import local_state
from backends.local_program import EtcdMissing, Program, installed, words
from backends.local_state import (
    ClusterDamaged,
    ClusterMismatch,
    Doing,
    FolderInUse,
    LocalFailed,
    SavedCluster,
    SavedMember,
    name_of,
)
from models import Unavailable
from processes.keeper import Keeper
from processes.server import Server
from storage.folder import Folder

__all__ = [
    "ClusterDamaged",
    "ClusterMismatch",
    "EtcdMissing",
    "FolderInUse",
    "LocalFailed",
    "LocalMember",
    "LocalMembers",
    "WrongState",
]

LOG_LOOK_SECONDS = 60.0
CLOSE_SECONDS_MAX = 2.0
MEMBER_CLOSE_SECONDS_MAX = 1.0


class WrongState(Unavailable):
    """A member is not in a state in which it can be told that; nothing was done."""


@dataclass(frozen=True)
class LocalMember:
    """A member as it is now."""

    node_id: int
    name: str  # its name in the cluster
    client_url: str
    peer_url: str
    state: Doing  # what it should be doing; "new": asked for and never started
    pid: int | None  # None: it has no process; if it should, it ended by itself


class LocalMembers:
    """The members whose data are in a folder, which is ours until `close`.

    `count` is how many there are, or how many there were at the first start of all.
    Nothing runs until `start`. Safe for many threads; a call waits for the one before.

    Raises a LocalFailed, with one line that says what to do. A method that is given the
    id of no member raises NodeNotFound, and an OSError where the disk does not take it.
    """

    def __init__(
        self, folder: Path, count: int, *, quota_bytes: int, request_bytes: int
    ) -> None:
        path = installed()
        folder = folder.resolve()
        try:
            self._held, self._cluster = _taken(folder, count)
        except OSError as error:
            instead = "use another --data-dir"
            raise LocalFailed(cannot(KEEP, folder, error, instead)) from error
        self._folder = folder
        limits = {
            "quota-backend-bytes": quota_bytes,
            "max-request-bytes": request_bytes,
        }
        self._program = Program(path, folder, self._held, limits)
        self._lock = threading.Lock()
        self._servers: dict[int, Server] = {}  # of each member the last one
        self._keeper = Keeper(
            "kv-etcd-keeper", partial(cut_logs, self._servers), LOG_LOOK_SECONDS
        )
        self._keeper.start()
        self._closed = False

    # --- What is there ---------------------------------------------------------------

    @property
    def members(self) -> tuple[LocalMember, ...]:
        """All of them as they are now, in order of id."""
        with self._lock:
            return tuple(self._look(n) for n in sorted(self._cluster.members))

    @property
    def client_urls(self) -> dict[int, str]:
        """Where each member answers clients, if it runs."""
        return {each.node_id: each.client_url for each in self.members}

    def died(self) -> dict[int, str]:
        """Which members ended by themselves and should run, with their last words.

        `launch` starts one again. A member that never was started here is not among them.
        """
        with self._lock:
            return {
                node_id: words(server)
                for node_id, server in sorted(self._servers.items())
                if self._cluster.members[node_id].state in ("running", "paused")
                and server.pid is None
                and not self._closed
            }

    def last_words(self, node_id: int) -> str:
        """What a member said last since it was started, in one line."""
        with self._lock:
            self._cluster.member(node_id)
            server = self._servers.get(node_id)
            return "it was not started" if server is None else words(server)

    # --- What can be done to a member ------------------------------------------------

    def start(self) -> None:
        """Start every member that is to run, and wait for none of them.

        Those that ran when this was closed or killed, and at the first start all.
        """
        with self._open():
            for node_id, member in self._cluster.members.items():
                begins = member.state == "new" and member.initial
                if (begins or member.state == "running") and not pid_of(
                    self._servers, node_id
                ):
                    self._run(node_id, replace(member, state="running"))

    def launch(
        self, node_id: int, initial_cluster: Sequence[tuple[str, str]] | None = None
    ) -> LocalMember:
        """Start a member; nothing if it runs.

        One that is new or wiped has to be added to the cluster first, and is given the
        (name, peer URL) of each member then, its own too. They are kept: if it ends
        before it has data, it is started again without. Raises WrongState.
        """
        with self._open():
            member, pid = self._cluster.member(node_id), pid_of(self._servers, node_id)
            if initial_cluster is not None:
                if member.state not in ("new", "wiped"):
                    self._refuse("begin anew", node_id, "wipe it first")
                member = _joining(node_id, member, initial_cluster)
                local_state.remove_data(self._folder, node_id)  # if wipe could not
            elif not member.initial:
                self._refuse("launch", node_id, "it has to join the cluster again")
            elif pid and member.state != "running":
                self._refuse("launch", node_id, "resume it, or kill it first")
            elif pid:
                return self._look(node_id)
            self._run(node_id, replace(member, state="running"))
            return self._look(node_id)

    def kill(self, node_id: int) -> LocalMember:
        """End its process at once, as a crash would; its data stay. It stays down."""
        with self._open():
            member = self._cluster.member(node_id)
            if member.state in ("running", "paused"):
                self._save(node_id, replace(member, state="stopped"))
            self._end(node_id)
            return self._look(node_id)

    def pause(self, node_id: int) -> LocalMember:
        """Let its process stand still, with its connections open. Raises WrongState."""
        return self._signal(node_id, signal.SIGSTOP, "pause", "paused")

    def resume(self, node_id: int) -> LocalMember:
        """Let a paused process go on. Raises WrongState."""
        return self._signal(node_id, signal.SIGCONT, "resume", "running")

    def wipe(self, node_id: int) -> LocalMember:
        """End its process and remove its data, as the loss of a disk would.

        The cluster has to remove the member and add it again before it is launched.
        """
        with self._open():
            member = self._cluster.member(node_id)
            # Saved first: never may a member begin with the half of its data.
            self._save(node_id, replace(member, state="wiped", initial=()))
            self._end(node_id)
            local_state.remove_data(self._folder, node_id)
            return self._look(node_id)

    def take_for_truth(self, node_id: int) -> LocalMember:
        """Go on with one member alone: with its data, or anew if it has none.

        For when a majority lost its data, and nobody can decide any more. What the other
        members hold is given up: they are wiped, and have to join again.
        """
        with self._open():
            is_wiped = self._cluster.member(node_id).state == "wiped"
            data = local_state.data_of(self._folder, node_id)
            has_data = data.exists() and not is_wiped
            cluster = self._cluster.alone(node_id, has_data=has_data)
            self._keep(cluster)
            for each in cluster.members:
                self._end(each)
            local_state.tidy(self._folder, cluster)
            if not has_data:
                local_state.remove_data(self._folder, node_id)
            # Not kept: a later start with it would throw out who joined since.
            more = ["--force-new-cluster"] if has_data else []
            self._run(node_id, replace(cluster.member(node_id), state="running"), *more)
            return self._look(node_id)

    def add(self, least: int = 0) -> LocalMember:
        """One more member, with an id that none ever had, at least so high.

        It is not started.
        """
        with self._open():
            node_id = max(least, self._cluster.next_id)
            self._save(node_id, local_state.new_member(self._cluster.ports()))
            return self._look(node_id)

    def forget(self, node_id: int) -> None:
        """End its process and remove all that there is of it."""
        with self._open():
            self._cluster.member(node_id)
            self._keep(self._cluster.without(node_id))
            server = self._servers.pop(node_id, None)
            if server is not None:
                server.kill()
            local_state.tidy(self._folder, self._cluster)

    def close(self) -> None:
        """End all processes and give the folder back; harmless if that was done.

        Those that ran will run after the next `start`.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                servers = dict(self._servers)
                members = self._cluster.members
                paused = {n for n in servers if members[n].state == "paused"}
                self._keeper.do(partial(end_in_turn, servers, paused))
            finally:
                self._keeper.finish()
                local_state.unlock(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- How -------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[None]:
        """One call at a time, and none after `close`."""
        with self._lock:
            if self._closed:
                raise WrongState(f"cannot do that when {self._folder} is closed")
            yield

    def _look(self, node_id: int) -> LocalMember:
        member = self._cluster.members[node_id]
        return LocalMember(
            node_id,
            name_of(node_id),
            local_state.client_url(member),
            local_state.peer_url(member),
            member.state,
            pid_of(self._servers, node_id),
        )

    def _refuse(self, what: str, node_id: int, instead: str) -> NoReturn:
        state = self._cluster.members[node_id].state
        pid = pid_of(self._servers, node_id)
        raise WrongState(
            f"cannot {what} when it is {state} (node_id={node_id}, pid={pid}): {instead}"
        )

    def _save(self, node_id: int, member: SavedMember) -> None:
        self._keep(self._cluster.having(node_id, member))

    def _keep(self, cluster: SavedCluster) -> None:
        if cluster != self._cluster:
            local_state.save(self._folder, cluster)
            self._cluster = cluster

    def _signal(
        self, node_id: int, number: signal.Signals, what: str, state: Doing
    ) -> LocalMember:
        with self._open():
            member = self._cluster.member(node_id)
            if not pid_of(self._servers, node_id):
                self._refuse(what, node_id, "launch it first")
            self._save(node_id, replace(member, state=state))
            self._servers[node_id].send(number)
            return self._look(node_id)

    def _run(self, node_id: int, member: SavedMember, *more: str) -> None:
        self._save(node_id, member)
        server = self._program.server(self._cluster, node_id, *more)
        self._servers[node_id] = server
        self._keeper.do(server.launch)

    def _end(self, node_id: int) -> None:
        if node_id in self._servers:
            self._servers[node_id].kill()


def pid_of(servers: Mapping[int, Server], node_id: int) -> int | None:
    """The id of a member's process, None if it has none."""
    return servers[node_id].pid if node_id in servers else None


def end_in_turn(servers: Mapping[int, Server], paused: Collection[int]) -> None:
    """End one after the other: all at once, and the leader would wait seven seconds.

    It hands its lead over before it ends, and nobody takes it who is ending too, or who
    is paused.
    """
    for node_id in paused:
        servers[node_id].kill()
    deadline = time.monotonic() + CLOSE_SECONDS_MAX
    for server in servers.values():
        left = max(0.0, deadline - time.monotonic())
        server.stop(min(left, MEMBER_CLOSE_SECONDS_MAX))


def cut_logs(servers: Mapping[int, Server]) -> None:
    """Empty the logs that are too long; servers may come and go meanwhile."""
    for server in list(servers.values()):
        server.cut_log()


def _taken(folder: Path, count: int) -> tuple[int, SavedCluster]:
    """The lock of a folder, which is made, and what is saved there."""
    Folder(folder).make()
    held = local_state.lock(folder)
    try:
        return held, local_state.load(folder, count)
    except BaseException:
        local_state.unlock(held)
        raise


def _joining(
    node_id: int, member: SavedMember, others: Sequence[tuple[str, str]]
) -> SavedMember:
    initial = tuple((str(name), str(url)) for name, url in others)
    own = (name_of(node_id), local_state.peer_url(member))
    if own not in initial:
        raise ValueError(f"cannot join a cluster without itself ({own=}, {initial=})")
    return replace(member, initial=initial, joins=True)
