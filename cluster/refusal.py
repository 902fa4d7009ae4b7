"""Starts that are refused, because to go on would be to guess, or would lose data.

Each error is one line that says why, and what would work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from access import ENTER, KEEP, obstacle
from cluster.node import ReplicaNode
from cluster.shard import Layout, saved_state
from config import CannotOpen, Settings
from models import NodeId
from storage.base import FormatUnknown, Storage


class NoDataDir(CannotOpen):
    """The folder of the nodes' folders cannot be used."""


class SettingsMismatch(CannotOpen):
    """The data on disk were written with settings that these ones contradict."""


class StorageUnreadable(CannotOpen):
    """Too many nodes' folders cannot be read: what is in sync may be known only there."""


def check_data_dir(path: Path, nodes: int) -> None:
    """Refuse a folder that cannot be that of the nodes' folders.

    If it has folders of nodes it need not be writable: each of them may be.
    """
    has_nodes = any(os.path.lexists(path / f"node-{n}") for n in range(nodes))
    found = obstacle(path, ENTER if has_nodes else KEEP)
    if found is not None:
        raise NoDataDir(
            f"cannot use the data folder {path}: {found.told_of(path)}; or use "
            "another --data-dir"
        )
    if (path / "node-0.db").exists():
        raise FormatUnknown(
            f"{path} holds files of an earlier, unreleased version (node-0.db): use "
            "that version, or another --data-dir"
        )


def check_layout(settings: Settings, storage: Storage) -> None:
    """Refuse data of another layout, before files are made that they do not have."""
    state, layout = storage.load_state(), layout_of(settings)
    if state is None:
        return
    saved = saved_state(state[1]).layout
    if saved != layout:
        folder = settings.data_dir
        fresh = f"{folder}-{len(layout.nodes)}-{layout.replication_factor}"
        raise SettingsMismatch(
            f"cannot open the data in {folder} with {layout}, as they were written with "
            f"{saved}: use those settings; or begin anew in another folder, with "
            f"--data-dir {quote(fresh)}, or in this one after "
            f"`rm -r {quote(str(folder))}/node-*`, if its data may go. To take the data "
            "along: run.py backup, then run.py restore"
        )


def check_readable(nodes: Mapping[NodeId, ReplicaNode], voters: set[NodeId]) -> None:
    """Refuse to start where a newer state may be in what cannot be read.

    A state is saved at a majority of the nodes that are up, so it is known if a majority
    of those that the newest one found calls up can be read.
    """
    problems = [
        node.problem for n, node in nodes.items() if n in voters and node.problem
    ]
    if problems and 2 * len(problems) >= len(voters):
        raise StorageUnreadable(
            "too few nodes can be read to know which copies are in sync (not read: "
            f"{len(problems)} of {len(voters)}): {problems[0]}; mend that at each of them, "
            "or move their folders away to go on without what they hold"
        )


def layout_of(settings: Settings) -> Layout:
    """Where keys live under these settings."""
    nodes = tuple(range(settings.nodes))
    return Layout(settings.placement, nodes, settings.replication_factor)
