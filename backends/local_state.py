"""What is kept of local members between two starts: a file, who may touch it, ports.

`cluster.json` says which members there are, where they listen and what they should be
doing. A new version is written beside it, flushed and renamed, and the folder flushed: a
crash leaves the old one or the new one, whole. A lock on the folder is held while it is
served, by the processes of the members too: it is free when the last of them is gone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection
from pathlib import Path
from shlex import quote
from typing import Literal

import msgspec
from msgspec.structs import replace

from config import CannotOpen
from models import NodeNotFound
from processes.server import HOST, ProcessFailed
from storage.folder import flush

STATE = "cluster.json"
LOCK = "lock"
# Below the ports that connections are given (Linux: from 32768): or a client that knocks
# while a member is down might get its port, or reach itself.
PORTS = range(20_000, 32_000)
PORTS_TRIED_MAX = 200
LOCK_SECONDS_MAX = 2.0  # the members of a process that was killed end within less
POLL_SECONDS = 0.02

Doing = Literal["new", "running", "stopped", "paused", "wiped"]


class LocalFailed(CannotOpen):
    """The members cannot be had; the text is one line that says what to do."""


class ClusterMismatch(LocalFailed):
    """The folder holds a cluster of another number of members than asked."""


class ClusterDamaged(LocalFailed):
    """What is saved of a cluster cannot be read, or is gone while its data are there."""


class FolderInUse(LocalFailed):
    """Another process serves the folder."""


class SavedMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member: its ports of 127.0.0.1, what it should be doing, how it begins."""

    client_port: int
    peer_port: int
    state: Doing = "new"
    # With which members it begins, (name, peer URL) each, if it has no data yet. Empty:
    # it has to be added to the cluster first.
    initial: tuple[tuple[str, str], ...] = ()
    joins: bool = False  # these run already; False: all of them begin together


class SavedCluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster as it is saved."""

    token: str  # of this cluster only: no member ever talks to those of another one
    asked: int  # how many members it began with
    next_id: int  # no id is ever given twice
    members: dict[int, SavedMember]
    format: Literal[1] = 1

    def member(self, node_id: int) -> SavedMember:
        """The member of this id. Raises NodeNotFound."""
        try:
            return self.members[node_id]
        except KeyError:
            known = ", ".join(str(n) for n in sorted(self.members))
            raise NodeNotFound(
                f"no such node (node_id={node_id}, nodes: {known})"
            ) from None

    def having(self, node_id: int, member: SavedMember) -> SavedCluster:
        """The same with this member, in place of the one that had its id."""
        members = {**self.members, node_id: member}
        return replace(self, members=members, next_id=max(self.next_id, node_id + 1))

    def without(self, node_id: int) -> SavedCluster:
        """The same without this member."""
        kept = {n: each for n, each in self.members.items() if n != node_id}
        return replace(self, members=kept)

    def alone(self, node_id: int, *, has_data: bool) -> SavedCluster:
        """A cluster of this member; the others are wiped. Raises NodeNotFound."""
        member = self.member(node_id)
        members = {
            n: replace(each, state="wiped", initial=())
            for n, each in self.members.items()
        }
        if has_data:
            return replace(self, members={**members, node_id: member})
        initial = ((name_of(node_id), peer_url(member)),)
        member = replace(member, state="new", initial=initial, joins=False)
        token = secrets.token_hex(8)  # nobody of before may talk to it
        return replace(self, members={**members, node_id: member}, token=token)

    def ports(self) -> set[int]:
        """Every port that is taken by a member, running or not."""
        pairs = ((m.client_port, m.peer_port) for m in self.members.values())
        return {port for pair in pairs for port in pair}


_saved = msgspec.json.Decoder(SavedCluster)


def new_cluster(count: int) -> SavedCluster:
    """A cluster of so many members that were never started."""
    cluster = SavedCluster(secrets.token_hex(8), count, count, {})
    for node_id in range(count):
        cluster = cluster.having(node_id, new_member(cluster.ports()))
    initial = tuple((name_of(n), peer_url(m)) for n, m in cluster.members.items())
    founders = {n: replace(m, initial=initial) for n, m in cluster.members.items()}
    return replace(cluster, members=founders)


def new_member(taken: Collection[int]) -> SavedMember:
    """A member that was never started, on ports that are free and not taken."""
    client_port = free_port(taken)
    return SavedMember(client_port, free_port({*taken, client_port}))


def name_of(node_id: int) -> str:
    """What a member is called in its cluster; its data are in a folder of that name."""
    return f"node-{node_id}"


def client_url(member: SavedMember) -> str:
    """Where it answers clients."""
    return f"http://{HOST}:{member.client_port}"


def peer_url(member: SavedMember) -> str:
    """Where it answers the other members."""
    return f"http://{HOST}:{member.peer_port}"


def free_port(taken: Collection[int]) -> int:
    """A port that nobody listens on just now, and that can be had again later."""
    for port in secrets.SystemRandom().sample(PORTS, PORTS_TRIED_MAX):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ProcessFailed(f"no port of {PORTS.start} to {PORTS.stop - 1} is free")


# --- The file ----------------------------------------------------------------------------


def load(folder: Path, count: int) -> SavedCluster:
    """The cluster that is saved, or a new one of so many members, which then is.

    Raises ClusterMismatch and ClusterDamaged; nothing is changed then.
    """
    try:
        text = (folder / STATE).read_bytes()
    except FileNotFoundError:
        return _begin(folder, count)
    try:
        cluster = _saved.decode(text)
    except msgspec.DecodeError as error:
        raise ClusterDamaged(
            f"cannot read {folder / STATE} ({error}): restore it from a backup, or move "
            f"{folder} away to begin with a new cluster"
        ) from None
    if count not in (cluster.asked, len(cluster.members)):
        raise ClusterMismatch(_mismatch(folder, cluster, count))
    cluster = _after_a_stop(cluster)
    save(folder, cluster)
    tidy(folder, cluster)
    return cluster


def save(folder: Path, cluster: SavedCluster) -> None:
    """Let this be what is saved, durably."""
    unfinished = folder / f"{STATE}.new"
    text = msgspec.json.format(msgspec.json.encode(cluster), indent=2)
    with unfinished.open("wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / STATE)
    flush(folder)


def tidy(folder: Path, cluster: SavedCluster) -> None:
    """Remove the data of members that were wiped or forgotten; a crash may leave them."""
    for node_id in range(cluster.next_id):
        member = cluster.members.get(node_id)
        if member is None or member.state == "wiped":
            remove_data(folder, node_id)
        if member is None:
            log_of(folder, node_id).unlink(missing_ok=True)


def data_of(folder: Path, node_id: int) -> Path:
    """The folder of a member's data."""
    return folder / name_of(node_id)


def log_of(folder: Path, node_id: int) -> Path:
    """The file of what a member says."""
    return folder / f"{name_of(node_id)}.log"


def remove_data(folder: Path, node_id: int) -> None:
    """Remove all data of a member."""
    data = data_of(folder, node_id)
    if data.exists():
        shutil.rmtree(data)
        flush(folder)


def _begin(folder: Path, count: int) -> SavedCluster:
    if any(path.is_dir() for path in folder.glob("node-*")):
        raise ClusterDamaged(
            f"{folder} holds data of members but no {STATE}: restore it from a backup, or "
            f"move {folder} away to begin with a new cluster"
        )
    cluster = new_cluster(count)
    save(folder, cluster)
    return cluster


def _mismatch(folder: Path, cluster: SavedCluster, count: int) -> str:
    now = len(cluster.members)
    began = "" if now == cluster.asked else f" (it began with {cluster.asked})"
    return (
        f"{folder} holds a cluster of {now} members{began} and {count} were asked for: "
        f"give --local-members {now}, then add or remove nodes while it runs; or begin anew "
        f"in another --data-dir, or in this one after `rm -r {quote(str(folder))}`, if its "
        "data may go"
    )


def _after_a_stop(cluster: SavedCluster) -> SavedCluster:
    """What is saved, once no member runs: a pause was lost with its process."""
    for node_id, member in cluster.members.items():
        if member.state == "paused":
            cluster = cluster.having(node_id, replace(member, state="stopped"))
    return cluster


# --- The lock ----------------------------------------------------------------------------


def lock(folder: Path) -> int:
    """Take the folder; the descriptor is what holds it. Raises FolderInUse."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unlock(descriptor: int) -> None:
    """Give the folder back."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _wait_for(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
        time.sleep(POLL_SECONDS)
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
    raise FolderInUse(
        f"another process (id {holder}), or a member of etcd that it started, has {folder} "
        "open: stop it, or use another --data-dir"
    )
