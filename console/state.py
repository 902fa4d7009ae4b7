"""What the state of a cluster means: shares, what cannot be served, whether all is well.

Calculation alone; `status` and `watch` show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from console.session import Document, Session, parsed
from console.words import lost_text, nodes_text, share_text

# In the order in which the first line of `status` tells of nodes that are not well.
WORDS = DOWN, HELD_UP, WAITING, RECOVERING, STALE, IN_TROUBLE = (
    "down",
    "held up by lost data",
    "waiting",
    "recovering",
    "stale",
    "in trouble",
)


def fetch(session: Session) -> dict[str, Any]:
    """The state of the cluster now. Raises StoreError."""
    nodes = parsed(session.ask("GET", "/nodes"))
    return judged(nodes, Document(session.client.shards())["shards"])


def judged(
    cluster: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The document of /nodes with each node's share, and what is not well."""
    shares: Counter[int] = Counter()
    for shard in shards:
        for node in shard["replicas"]:
            shares[node] += shard["share"]
    nodes = [{**node, "share": shares[node["node_id"]]} for node in cluster["nodes"]]
    by_majority = cluster.get("protocol") == "raft"
    unserved = not_served(shards, by_majority=by_majority)
    problems = [*unserved, *(text for node in nodes for text in _problems(node))]
    return {
        "well": not problems,
        "ready": not unserved,
        "not_served": unserved,
        "problems": problems,
        **cluster,
        "nodes": nodes,
    }


def not_served(
    shards: Sequence[Mapping[str, Any]], *, by_majority: bool = False
) -> list[str]:
    """Which part of the key space cannot be served and why, a sentence for each reason."""
    if by_majority:
        return [_no_leader(shard) for shard in shards if not shard["writable"]]
    lost = [shard for shard in shards if shard["lost"]]
    silent = [shard for shard in shards if not shard["readable"] and not shard["lost"]]
    half = [shard for shard in shards if shard["readable"] and not shard["writable"]]
    found = []
    if lost:
        nodes = nodes_text(_members(lost, "replicas"))
        found.append(
            f"{_part(lost)} of the keys lost every in-sync copy: recover {nodes}, "
            "one of them with --accept-loss"
        )
    if silent:
        nodes = nodes_text(_members(silent, "in_sync"))
        found.append(
            f"{_part(silent)} of the keys cannot be served, as every in-sync replica of "
            f"theirs is down ({nodes}): recover them"
        )
    if half:
        found.append(
            f"{_part(half)} of the keys can be read but not written, as too few of their "
            "replicas are in sync"
        )
    return found


def _no_leader(shard: Mapping[str, Any]) -> str:
    if shard["lost"]:
        return (
            "a majority of the members lost their data: recover one of them with "
            "--accept-loss, and then the others"
        )
    count, live = len(shard["replicas"]), len(shard["live"])
    verb = "answers" if live == 1 else "answer"
    found = f"no leader: {live} of {count} members {verb}"
    if live > count // 2:
        return f"{found}, which is enough to elect one in a moment"
    silent = [node for node in shard["replicas"] if node not in shard["live"]]
    return f"{found}, and {count // 2 + 1} have to: recover {nodes_text(silent)}"


def standings(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes that are not well in a few words, such as `nodes 1 and 2 down`."""
    by_word: dict[str, list[int]] = {word: [] for word in WORDS}
    for node in nodes:
        word = _standing(node)
        if word:
            by_word[word].append(node["node_id"])
    return [f"{nodes_text(ids)} {word}" for word, ids in by_word.items() if ids]


def _standing(node: Mapping[str, Any]) -> str:
    """A node's state in a word or two, the worst if there are several; empty: well."""
    if node["status"] == "down":
        return DOWN
    if node["status"] != "up" and node.get("lost_shards"):
        return HELD_UP
    if node["status"] != "up":
        return WAITING if node["waiting_for"] else RECOVERING
    if node["stale_keys"] and "raft" not in node:  # a member that is up gets them now
        return STALE
    return IN_TROUBLE if node.get("problem") else ""


def _problems(node: Mapping[str, Any]) -> list[str]:
    name, found = f"node {node['node_id']}", []
    if node["status"] != "up":
        waits = node["waiting_for"]
        why = f", waits for {nodes_text(waits)}" if waits else ""
        found.append(f"{name} is {node['status']}{why}")
    if node.get("lost_shards"):
        found.append(f"{name}: {lost_text(node['lost_shards'])}")
    if node["stale_keys"] and "raft" not in node:
        found.append(f"{name} lacks {node['stale_keys']:,} keys")
    elif node["stale_keys"] and node["status"] != "up":  # one that is up gets them now
        found.append(f"{name} is {node['stale_keys']:,} changes behind")
    if node.get("problem"):
        found.append(f"{name}: {node['problem']}")
    return found


def _part(shards: Sequence[Mapping[str, Any]]) -> str:
    return share_text(sum(shard["share"] for shard in shards))


def _members(shards: Sequence[Mapping[str, Any]], which: str) -> list[int]:
    return sorted({node for shard in shards for node in shard[which]})
