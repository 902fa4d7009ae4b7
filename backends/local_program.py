"""The program etcd: where it is, how a member is started, and what it said at its end.

Version 3.4 or newer; https://etcd.io/docs/v3.4/op-guide/configuration/. What is of weight
for safety, as is that it syncs to disk, and the times of elections are at their defaults.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends import local_state
from backends.local_state import LocalFailed, SavedCluster, name_of
from processes.server import Server

PROGRAM = "etcd"
# Without it 64-bit ARM is refused by versions that Debian has.
ARCHITECTURE = "ETCD_UNSUPPORTED_ARCH"
# Changes between two snapshots, after each of which all but the last 5,000 leave memory.
# A tenth of the default: values may be large here, and a member holds 105,000 otherwise.
SNAPSHOT_COUNT = 10_000
REVISIONS_KEPT = 10_000  # of the history of all keys; etcd looks every five minutes
LOG_BYTES_MAX = 10_000_000
WORDS_BYTES_MAX = 65_536  # of the end of a log, where the reason of an end is


class EtcdMissing(LocalFailed):
    """There is no program to run."""

    def __init__(self) -> None:
        super().__init__(
            "etcd is not installed: on Debian or Ubuntu apt-get install etcd-server, "
            "elsewhere https://github.com/etcd-io/etcd/releases; or give "
            "--etcd-endpoints of a cluster that runs"
        )


@dataclass(frozen=True)
class Program:
    """How members of one folder are run."""

    path: str
    folder: Path
    held: int  # the lock of the folder, which every member holds too
    limits: Mapping[str, int]  # by the name of the flag

    def server(self, cluster: SavedCluster, node_id: int, *more: str) -> Server:
        """The process of a member, to be launched; with `more` flags."""
        flags = {**flags_of(self.folder, cluster, node_id), **self.limits}
        return Server(
            [self.path, *(f"--{n}={text}" for n, text in flags.items()), *more],
            local_state.log_of(self.folder, node_id),
            {n: os.environ[n] for n in (ARCHITECTURE,) if n in os.environ},
            log_bytes_max=LOG_BYTES_MAX,
            keep_open=[self.held],
        )


def flags_of(folder: Path, cluster: SavedCluster, node_id: int) -> dict[str, object]:
    """What a member is started with; `initial-` counts where it has no data."""
    member = cluster.members[node_id]
    client, peer = local_state.client_url(member), local_state.peer_url(member)
    return {
        "name": name_of(node_id),
        "data-dir": local_state.data_of(folder, node_id),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": ",".join(f"{name}={url}" for name, url in member.initial),
        "initial-cluster-token": cluster.token,
        "initial-cluster-state": "existing" if member.joins else "new",
        "logger": "zap",
        "log-level": "warn",
        "snapshot-count": SNAPSHOT_COUNT,
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": REVISIONS_KEPT,
    }


def installed() -> str:
    """Where etcd is installed. Raises EtcdMissing."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise EtcdMissing
    return found


def words(server: Server) -> str:
    """Why a member ended, or what it said last, in one line."""
    lines = server.said(WORDS_BYTES_MAX).strip().splitlines()
    grave = [line for line in lines if is_grave(line)]
    said = plain((grave or lines or ["it said nothing"])[-1])
    status = server.status
    if status is None or status >= 0:
        return said
    return f"ended by signal {-status}; it said last: {said}"


def is_grave(line: str) -> bool:
    """True for a line after which etcd ends."""
    marks = ('{"level":"fatal"', '{"level":"panic"', "panic: ", "fatal error: ")
    return line.startswith(marks)


def plain(line: str) -> str:
    """A line of etcd's log without what is there for machines."""
    try:
        told = json.loads(line)
        parts = [told["msg"], *(told[name] for name in ("error",) if name in told)]
    except (ValueError, LookupError, TypeError):
        return line
    return ": ".join(str(part) for part in parts)
