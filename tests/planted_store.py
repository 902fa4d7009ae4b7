"""A small store for the experiments to find fault with: correct, or with one bug.

It has the methods of client.Client that an experiment uses, replicas, failures and all,
in a few lines of dictionaries. `BUGS` names what can be planted in it.
"""

import itertools
import zlib

import client
from client import Found, KeyInfo, Node, Written
from experiments.catalogue import PAPER
from experiments.recording import Recording
from experiments.runner import Runner, Watch

BUGS = {
    "loses writes": "every fifth write is acknowledged and forgotten",
    "keeps one copy": "only the first live replica gets a write",
    "mixes up values": "a read of every fifth key shows the value of another",
    "skips resync": "a recovered node serves the copy that it had",
    "brings back deletes": "a recovered node does not learn what was deleted",
    "says 404 for 503": "a key whose replicas are all down is `not found`",
    "serves when down": "a key whose replicas are all down is read all the same",
    "ignores failures": "a failed node goes on as if nothing had happened",
    "stays down": "a recovered node is still down",
    "gives up": "nothing is served while any node is down",
    "dies": "nothing is answered any more after a failure",
}


class PlantedStore:
    """A cluster in memory, with at most one of `BUGS`.

    `seconds_each` is what a request takes on `clock`.
    """

    def __init__(self, nodes=3, replication_factor=2, bug="", seconds_each=0.001):
        assert bug in {"", *BUGS}, f"unknown bug (bug={bug})"
        self.replication_factor = replication_factor
        self.bug = bug
        self.down = set()
        self.requests = 0
        self.recovered = []
        self._now = 0.0
        self._seconds_each = seconds_each
        # Of each node: key -> (version, value); None: deleted
        self._copies: list[dict] = [{} for _ in range(nodes)]
        self._stale: list[set] = [set() for _ in range(nodes)]
        self._versions = itertools.count(1)
        self.dead = False

    def clock(self):
        return self._now

    def write(self, key, value, **_):
        self._request()
        return self._put(key, value)

    def delete(self, key, **_):
        self._request()
        if self._get(key) is None:
            raise problem("key_not_found")
        return self._put(key, None)

    def read(self, key, **_):
        self._request()
        live = self._live(key)
        if not live:
            if self.bug == "says 404 for 503":
                raise problem("key_not_found")
            if self.bug != "serves when down":
                raise problem("unavailable")
        version, value = self._held(key)
        if value is None:
            raise problem("key_not_found")
        if self.bug == "mixes up values" and zlib.crc32(key.encode()) % 5 == 0:
            value = {"value of": "another"}
        return Found(key, value, text_of(version), tuple(live[:1]))

    def fail(self, node):
        self._request()
        if self.bug != "ignores failures":
            self.down.add(node)
        if self.bug == "dies":
            self.dead = True
        return self._node(node)

    def recover(self, node):
        self._request()
        self.recovered.append(node)
        if self.bug != "stays down":
            self.down.discard(node)
        if self.bug == "skips resync":
            self._stale[node].clear()
        for each in range(len(self._copies)):
            self._catch_up(each)
        return self._node(node)

    def nodes(self):
        self._request()
        return [self._node(node) for node in range(len(self._copies))]

    def keys(self, prefix=""):
        self._request()
        every = sorted({key for copy in self._copies for key in copy})
        return [KeyInfo(k, "1") for k in every if k.startswith(prefix) and self._get(k)]

    def close(self):
        pass

    def _node(self, node):
        status = "down" if node in self.down else "up"
        return Node(
            node, status, len(self._copies[node]), 0, len(self._stale[node]), ()
        )

    def _request(self):
        self.requests += 1
        self._now += self._seconds_each
        if self.dead:
            raise problem("no_connection")

    def _put(self, key, value):
        live = self._live(key)
        replicas = self._replicas(key)
        if not live or (self.bug == "gives up" and self.down):
            raise problem("unavailable")
        version = next(self._versions)
        if self.bug != "loses writes" or version % 5:
            for node in live[:1] if self.bug == "keeps one copy" else live:
                self._copies[node][key] = (version, value)
        missed = [node for node in replicas if node in self.down]
        for node in missed:
            self._stale[node].add(key)
        holding = [node for node in replicas if node not in self.down]
        return Written(key, text_of(version), tuple(holding), tuple(missed))

    def _get(self, key):
        return self._held(key)[1]

    def _held(self, key):
        """Version and value at the first replica that may serve; None: no value."""
        node, *_ = self._live(key) or self._replicas(key)
        return self._copies[node].get(key, (0, None))

    def _live(self, key):
        if self.bug == "gives up" and self.down:
            return []
        return [
            node
            for node in self._replicas(key)
            if node not in self.down and key not in self._stale[node]
        ]

    def _replicas(self, key):
        count = len(self._copies)
        first = zlib.crc32(key.encode()) % count
        return [(first + step) % count for step in range(self.replication_factor)]

    def _catch_up(self, node):
        if node in self.down:
            return
        for key in sorted(self._stale[node]):
            for peer in self._replicas(key):
                if peer in self.down or key in self._stale[peer]:
                    continue
                version, value = self._copies[peer].get(key, (0, None))
                if value is not None or self.bug != "brings back deletes":
                    self._copies[node][key] = (version, value)
                self._stale[node].discard(key)
                break


def problem(code):
    """What a client raises for an answer with this code."""
    kind = {
        "key_not_found": client.KeyNotFound,
        "unavailable": client.Unavailable,
        "no_connection": client.NoConnection,
    }[code]
    definite = code != "no_connection"
    return kind(f"planted: {code}", code=code, definite=definite)


def text_of(version):
    return f"{version:09d}"


class OneCluster:
    """Offers one planted store of each shape."""

    prefix = "test-"

    def __init__(self, bug="", seconds_each=0.001):
        self.stores = {}
        self._planted = {"bug": bug, "seconds_each": seconds_each}

    def store(self, shape):
        if shape not in self.stores:
            self.stores[shape] = PlantedStore(
                shape.nodes, shape.replication_factor, **self._planted
            )
        return self.stores[shape]

    def clock(self):
        return sum(store.clock() for store in self.stores.values())


def run_paper(clusters, watch=None, write=lambda _line: None, **options):
    """Every trial of the paper; `write` is given each line of the history."""
    seconds = getattr(clusters, "clock", lambda: 0.0)
    recording = Recording(write, now=lambda: round(seconds() * 1e6))
    watch = watch or Watch()
    return Runner(clusters, watch, recording=recording, **options).run(PAPER.trials)
