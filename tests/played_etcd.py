"""A cluster of etcd that is played as a whole, its members too, and processes of ours."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from backends.asking import ADD, PROMOTE, REMOVE
from backends.endpoints import NO_LEADER
from backends.gateway import EtcdError, NotSent
from backends.local import LocalMember
from backends.messages import (
    RANGE,
    STATUS,
    Header,
    KeyValue,
    Member,
    MemberList,
    RangeAnswer,
    Status,
    TxnAnswer,
)
from backends.watch import MEMBERS
from models import NodeNotFound


def client_url(number):
    return f"http://c{number}:1"


def peer_url(number):
    return f"http://p{number}:2"


class PlayedEtcd:
    """Stands in for `Endpoints`. `troubles` has for a path what is raised, in turn.

    A trouble is raised once the request was done where it is in `after_it_was_done`.
    """

    def __init__(self, count=3):
        self.members = {
            n: Member(n, f"node-{n - 1}", (peer_url(n),), (client_url(n),))
            for n in range(1, count + 1)
        }
        self.up = set(self.members)
        self.leader = 1
        self.value, self.revision = None, 0
        self.troubles = {}
        self.after_it_was_done = set()
        self.asked = []
        self.closed = threading.Event()
        self.urls = ()

    # --- As Endpoints -----------------------------------------------------------------

    def arrange(self, urls, silent=(), leader=NO_LEADER):
        self.urls = tuple(urls)

    def leave(self, urls, trouble=""):
        pass

    def ask_one(self, url, path, message, shape, seconds):
        number = next((n for n in self.up if client_url(n) == url), None)
        if number is None:
            raise NotSent("refused")
        header = Header(member_id=number, revision=7)
        if path == STATUS:
            leader = self.leader if self.leader in self.up else 0
            return Status(header, leader=leader, term=2, applied=9, committed=9)
        if path == MEMBERS:
            return MemberList(header, tuple(self.members.values()))
        if path == PROMOTE:
            return self.change(path, message, shape)
        return RangeAnswer(header) if path == RANGE else TxnAnswer(header, True)

    def read(self, path, message, _shape):
        return self._at(path, lambda: self._value())

    peek = read

    def change(self, path, message, _shape):
        self.asked.append(path)
        done = {ADD: self._add, REMOVE: self._remove, PROMOTE: self._promote}
        return self._at(path, lambda: done.get(path, self._put)(message))

    def _at(self, path, do):
        troubles = self.troubles.get(path, [])
        trouble = troubles.pop(0) if troubles else None
        if trouble is None:
            return do()
        if path in self.after_it_was_done:
            do()
        raise trouble

    # --- What is done -----------------------------------------------------------------

    def _value(self):
        if self.value is None:
            return RangeAnswer()
        return RangeAnswer(kvs=(KeyValue(b"", self.value, mod_revision=self.revision),))

    def _put(self, txn):
        (compare,), (done,) = txn.compare, txn.success
        if compare.mod_revision != self.revision:
            return TxnAnswer(Header(), False)
        self.value, self.revision = done.request_put.value, self.revision + 1
        return TxnAnswer(Header(), True)

    def _add(self, message):
        if any(message.peer_urls == each.peer_urls for each in self.members.values()):
            raise EtcdError("etcdserver: Peer URLs already exists")
        number = max(self.members) + 10
        member = Member(number, "", message.peer_urls, is_learner=True)
        self.members[number] = member
        return MemberList(members=tuple(self.members.values()), member=member)

    def _remove(self, message):
        if self.members.pop(message.number, None) is None:
            raise EtcdError("etcdserver: member not found")
        self.up.discard(message.number)
        return MemberList()

    def _promote(self, message):
        old = self.members[message.number]
        self.members[message.number] = Member(
            old.number, old.name, old.peer_urls, old.client_urls
        )
        return MemberList()


@dataclass
class PlayedLocal:
    """Stands in for `LocalMembers`, of those members of a cluster that are ours."""

    etcd: PlayedEtcd

    def __post_init__(self):
        self.each = {
            n - 1: LocalMember(n - 1, m.name, client_url(n), peer_url(n), "running", n)
            for n, m in self.etcd.members.items()
        }
        self.did = []
        self.least = []

    @property
    def members(self):
        return tuple(self.each[n] for n in sorted(self.each))

    @property
    def client_urls(self):
        return {each.node_id: each.client_url for each in self.members}

    def died(self):
        return {}

    def close(self):
        self.did.append(("close", None))

    def set(self, node_id, state, pid=None):
        """Let a member be in this state, and its process gone unless it has an id."""
        each = self.each[node_id]
        self.each[node_id] = replace(each, state=state, pid=pid)
        number = self._number(each)
        if number is not None:
            (self.etcd.up.add if state == "running" else self.etcd.up.discard)(number)

    def _number(self, each):
        found = self.etcd.members.values()
        return next((m.number for m in found if each.peer_url in m.peer_urls), None)

    def _runs(self, what, node_id):
        self.did.append((what, node_id))
        each = self.each[node_id]
        number = self._number(each)
        if number is not None:
            old = self.etcd.members[number]
            self.etcd.members[number] = Member(
                number, each.name, (each.peer_url,), (each.client_url,), old.is_learner
            )
            # It answers where the played cluster has it.
            self.each[node_id] = replace(each, client_url=client_url(number))
            self.etcd.members[number] = Member(
                number, each.name, (each.peer_url,), (client_url(number),),
                old.is_learner,
            )  # fmt: skip
        self.set(node_id, "running", 1)

    def launch(self, node_id, initial=None):
        if initial is not None:
            own = self.each[node_id]
            assert (own.name, own.peer_url) in initial
        self._runs("launch", node_id)

    def resume(self, node_id):
        self._runs("resume", node_id)

    def take_for_truth(self, node_id):
        self._runs("take_for_truth", node_id)

    def kill(self, node_id):
        self.set(node_id, "stopped")

    def pause(self, node_id):
        self.set(node_id, "paused", self.each[node_id].pid)

    def wipe(self, node_id):
        self.did.append(("wipe", node_id))
        self.set(node_id, "wiped")

    def add(self, least=0):
        self.least.append(least)
        node_id = max(least, *self.each) + 1 if least in self.each else least
        url = f"http://new{node_id}:2"
        self.each[node_id] = LocalMember(
            node_id, f"node-{node_id}", "http://new:1", url, "new", None
        )
        return self.each[node_id]

    def forget(self, node_id):
        if node_id not in self.each:
            raise NodeNotFound("no such node")
        self.did.append(("forget", node_id))
        del self.each[node_id]
