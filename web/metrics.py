"""What GET /metrics shows, in Prometheus' text format, with its official client.

Requests are counted as they are answered; all else is measured when it is asked for, from
what any engine can tell. Label values come from fixed sets: methods, routes, levels,
statuses, nodes, kinds of events; so no client can make the page grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from cluster.reports import Measures
from engine import Engine
from models import NodeInfo, RaftInfo
from storage.durations import BOUNDS, Durations

NODE_STATES = ("up", "down", "recovering")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_BUCKETS = (*BOUNDS, 5.0, 10.0)  # seconds; what waits takes longer than a commit
# Of the samples of one metric, after its name.
_SUFFIXES = ("", "_total", "_bucket", "_count", "_sum", "_info")
# Of events at a node, those that are counted for it.
_NODE_EVENTS = {
    "kv_node_failures": ("node_failed", "failures of the node, asked for"),
    "kv_node_recoveries": ("node_recovered", "times that the node caught up"),
    "kv_node_damage_found": ("damage_found", "times that its file was found damaged"),
    "kv_node_storage_failures": ("storage_failed", "times that its storage failed"),
}
# Of a node that is a member of a Raft cluster, as it says itself.
_RAFT: dict[str, tuple[str, Callable[[RaftInfo], float]]] = {
    "kv_node_raft_leader": ("1 if it leads", lambda raft: raft.role == "leader"),
    "kv_node_raft_term": ("the last election that it knows of", lambda raft: raft.term),
    "kv_node_raft_applied_index": (
        "entries of the log that it has applied",
        lambda raft: raft.applied,
    ),
    "kv_node_file_bytes": ("bytes of its file", lambda raft: raft.size_bytes),
}
# Of every kind, so that each is there, with 0, before its first event: what a counter
# begins with is not seen as growth.
EVENT_KINDS = (
    *("node_failed", "recovery_began", "node_recovered", "waiting"),
    *("damage_found", "storage_failed", "storage_replaced"),
    *("data_lost", "loss_accepted", "expired", "purged", "clock_off"),
    *("leader_elected", "leader_lost", "member_silent", "member_back", "member_died"),
    *("node_added", "node_removed", "room_made", "wrong_cluster"),
)
Load = Callable[[], Mapping[str, int]]


class Metrics:
    """The metrics of one application: counts requests, and renders all there are."""

    def __init__(self, store: Engine) -> None:
        # They would be one more series for each, and nothing asks for them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=True)
        self._requests = Histogram(
            "kv_http_request_duration_seconds",
            "time from a whole request to its answer; its count is the number of requests",
            ("method", "route", "level", "status"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._known: dict[
            tuple[str, tuple[str, str], str], Callable[[float], None]
        ] = {}
        self._store = _StoreCollector(store)
        self._registry.register(self._store)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def count(
        self, method: str, labels: tuple[str, str], status: str, seconds: float
    ) -> None:
        """Count a request that was answered; `labels` are its route and level, or empty."""
        known = method, labels, status
        observe = self._known.get(known)
        if observe is None:
            named = method if method in METHODS else "other"
            observe = self._requests.labels(named, *labels, status).observe
            if named == method:
                self._known[known] = observe
        observe(seconds)

    def watch(self, load: Load) -> None:
        """Show also what a server has under way: requests in each state."""
        self._store.load = load

    def render(self, accept: str, names: Sequence[str]) -> tuple[bytes, str]:
        """The text and its content type; only the metrics of `names`, if any are given."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        if not names:
            return encode(self._registry), content_type
        samples = [name + suffix for name in names for suffix in _SUFFIXES]
        return encode(self._registry.restricted_registry(samples)), content_type


class _StoreCollector(Collector):
    """Asks the store, and the server, when it is asked."""

    def __init__(self, store: Engine) -> None:
        self._store = store
        self.load: Load | None = None

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now; the registry learns the names from the first time."""
        store = self._store
        nodes, measures = store.nodes(), store.measures()
        yield from _node_gauges(nodes)
        yield from _node_counters(nodes, measures)
        yield _commits(measures)
        yield from _shard_gauges(measures)
        yield from _whole(store, nodes, measures.clock_ahead_seconds)
        events = CounterMetricFamily(
            "kv_events", "events of each kind since the start", labels=["kind"]
        )
        for kind, count in _by_kind(measures).items():
            events.add_metric([kind], count)
        yield events
        open_requests = GaugeMetricFamily(
            "kv_http_requests_open", "requests under way, by state", labels=["state"]
        )
        for state, count in (self.load() if self.load else {}).items():
            open_requests.add_metric([state], count)
        yield open_requests


def _node_gauges(nodes: Sequence[NodeInfo]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "kv_node_state", "1 for the state that the node is in", labels=["node", "state"]
    )
    for node in nodes:
        for name in NODE_STATES:
            state.add_metric([str(node.node_id), name], node.status == name)
    yield state
    gauges: dict[str, tuple[str, Callable[[NodeInfo], float | None]]] = {
        "kv_node_up": ("1 if it serves all its keys", lambda n: n.status == "up"),
        "kv_node_keys": ("keys with a value at the node", lambda n: n.keys),
        "kv_node_bytes": ("bytes of keys and values at the node", lambda n: n.bytes),
        "kv_node_stale_keys": (
            "keys that the node should hold and lacks, or holds older",
            lambda n: n.stale_keys,
        ),
        "kv_node_waiting_for": (
            "nodes that are down and alone hold what it lacks",
            lambda n: len(n.waiting_for),
        ),
        "kv_node_storage_problem": (
            "1 if its storage is in trouble: GET /nodes says how",
            lambda n: isinstance(n.problem, str),
        ),
        **{name: (text, _of_raft(what)) for name, (text, what) in _RAFT.items()},
    }
    for name, (text, measure) in gauges.items():
        gauge = GaugeMetricFamily(name, text, labels=["node"])
        for node in nodes:
            value = measure(node)
            if value is not None:
                gauge.add_metric([str(node.node_id)], value)
        yield gauge


def _of_raft(what: Callable[[RaftInfo], float]) -> Callable[[NodeInfo], float | None]:
    """A measure of a node that is a member of a Raft cluster."""
    return lambda node: what(node.raft) if isinstance(node.raft, RaftInfo) else None


def _node_counters(nodes: Sequence[NodeInfo], measures: Measures) -> Iterator[Metric]:
    copied = measures.copied
    for name, (kind, text) in _NODE_EVENTS.items():
        counter = CounterMetricFamily(name, text, labels=["node"])
        for node in nodes:
            count = measures.events.get((kind, node.node_id), 0)
            counter.add_metric([str(node.node_id)], count)
        yield counter
    counters = {
        "kv_node_copied_keys": ("keys copied to it when it came back", "copied"),
        "kv_node_copied_bytes": ("bytes copied to it when it came back", "bytes"),
        "kv_node_removed_keys": ("of those, keys deleted meanwhile", "removed"),
    }
    for name, (text, field) in counters.items():
        counter = CounterMetricFamily(name, text, labels=["node"])
        for node_id, progress in copied.items():
            counter.add_metric([str(node_id)], getattr(progress, field))
        yield counter


def _commits(measures: Measures) -> Metric:
    family = HistogramMetricFamily(
        "kv_node_commit_duration_seconds",
        "time to write a commit to the node's file, and to flush it if durability is fsync",
        labels=["node"],
    )
    for node, commits in measures.commits.items():
        if commits is not None:
            family.add_metric([str(node)], _buckets(commits), commits.sum_seconds)
    return family


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    names = (*map(str, BOUNDS), "+Inf")
    return list(zip(names, accumulate(durations.counts), strict=True))


def _shard_gauges(measures: Measures) -> Iterator[Metric]:
    counts = measures.shards
    sizes = GaugeMetricFamily(
        "kv_shards",
        "shards (keys that share their replicas) by in-sync replicas that are up",
        labels=["in_sync"],
    )
    for size, count in counts.in_sync.items():
        sizes.add_metric([str(size)], count)
    yield sizes
    gauges = {
        "kv_shards_unreadable": ("shards that cannot be read now", "unreadable"),
        "kv_shards_unwritable": ("shards that cannot be written now", "unwritable"),
        "kv_shards_lost": ("shards whose every in-sync copy was lost", "lost"),
        "kv_unsettled_keys": ("keys with a write of unknown outcome", "unsettled_keys"),
    }
    for name, (text, field) in gauges.items():
        value = getattr(counts, field)
        yield GaugeMetricFamily(name, text, value=value)


def _whole(
    store: Engine, nodes: Sequence[NodeInfo], ahead_seconds: float
) -> Iterator[Metric]:
    ready = store.is_ready()
    yield GaugeMetricFamily("kv_ready", "1 if every key can be served", value=ready)
    yield GaugeMetricFamily(
        "kv_clock_ahead_seconds",
        "how far its time is ahead of the machine's clock; below 0: behind",
        value=ahead_seconds,
    )
    total = sum(node.bytes or 0 for node in nodes)
    yield GaugeMetricFamily(
        "kv_stored_bytes", "bytes of keys and values, each replica counted", value=total
    )
    limit = store.settings.max_stored_bytes
    yield GaugeMetricFamily(
        "kv_stored_bytes_limit", "the setting max_stored_bytes", value=limit
    )
    scheme = store.scheme
    names = ("storage", "durability", "consistency", "engine")
    known = store.settings.public()
    about = {name: str(known[name]) for name in names if name in known}
    about |= {"protocol": scheme.protocol, "placement": scheme.placement}
    about["replicas"] = str(scheme.replicas)
    yield InfoMetricFamily("kv_store", "how the store is set up", value=about)


def _by_kind(measures: Measures) -> dict[str, int]:
    found = dict.fromkeys(EVENT_KINDS, 0)
    for (kind, _), count in measures.events.items():
        found[kind] = found.get(kind, 0) + count
    return found
