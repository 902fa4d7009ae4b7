"""Small numbers for the members of etcd, the same for every service that asks.

The members of a cluster are known to etcd by numbers of 64 bits, which JavaScript cannot
hold and people cannot say. The numbers of the API are kept in etcd itself, beside the
keys; one is never given twice, except to a member that takes another's place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from backends.endpoints import Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer
from backends.messages import (
    RANGE,
    TXN,
    Compare,
    Member,
    Op,
    Put,
    Range,
    RangeAnswer,
    Txn,
    TxnAnswer,
)
from models import NodeId

TRIES = 10  # against other services that change it in the same moment


class Numbers(msgspec.Struct, frozen=True):
    """Which member has which number."""

    members: dict[str, NodeId] = {}  # by the member's id, 16 hexadecimal digits
    next: NodeId = 0  # the first that no member ever had
    joining: tuple[str, ...] = ()  # learners that are to become voters


_numbers = msgspec.json.Decoder(Numbers)


def name_of(member: int) -> str:
    """A member's id as etcd writes it."""
    return f"{member:016x}"


def numbered(numbers: Numbers, members: Iterable[Member]) -> Numbers:
    """With a number for each of these members, in the order of their names and ids."""
    known, number = dict(numbers.members), numbers.next
    for member in sorted(members, key=_order):
        if name_of(member.number) not in known:
            known[name_of(member.number)] = number
            number += 1
    return Numbers(known, number, numbers.joining)


def replaced(numbers: Numbers, member: int, node_id: NodeId) -> Numbers:
    """With this number at another member; whoever had it has none any more."""
    known = {name: n for name, n in numbers.members.items() if n != node_id}
    known[name_of(member)] = node_id
    return Numbers(known, max(numbers.next, node_id + 1), numbers.joining)


def joining(numbers: Numbers, member: int) -> Numbers:
    """With this learner among those that are to become voters."""
    others = joined(numbers, member).joining
    return msgspec.structs.replace(numbers, joining=(*others, name_of(member)))


def joined(numbers: Numbers, member: int) -> Numbers:
    """With this one no longer among them."""
    name = name_of(member)
    left = tuple(each for each in numbers.joining if each != name)
    return msgspec.structs.replace(numbers, joining=left)


class Roster:
    """The numbers, as etcd has them and as they were seen last."""

    def __init__(self, endpoints: Endpoints, prefix: bytes) -> None:
        self._endpoints = endpoints
        self._key = prefix + b"nodes"
        self.numbers = Numbers()

    def of(
        self, members: Sequence[Member], *, keep: bool = True
    ) -> Mapping[int, NodeId]:
        """The number of each member, kept if it was new; never an error.

        Without a leader new ones cannot be kept (and with `keep` false are not tried to
        be): they are what they would be, until then.
        """
        if any(name_of(m.number) not in self.numbers.members for m in members):
            try:
                self._load(self._endpoints.peek)
                if keep and numbered(self.numbers, members) != self.numbers:
                    self.change(lambda numbers: numbered(numbers, members))
            except (NobodyCan, NoAnswer, EtcdError):
                pass
        found = numbered(self.numbers, members).members
        return {member.number: found[name_of(member.number)] for member in members}

    def refresh(self) -> None:
        """See the numbers as some member has them, if one answers."""
        with suppress(NobodyCan, NoAnswer, EtcdError):
            self._load(self._endpoints.peek)

    def change(self, how: Callable[[Numbers], Numbers]) -> None:
        """Change the numbers, whoever else changes them. Raises what `change` does."""
        for _ in range(TRIES):
            numbers, revision = self._load(self._endpoints.read)
            wanted = how(numbers)
            if wanted == numbers:
                return
            compare = Compare(self._key, "MOD", "EQUAL", mod_revision=revision)
            put = Op(request_put=Put(self._key, msgspec.json.encode(wanted)))
            txn = Txn((compare,), (put,))
            if self._endpoints.change(TXN, txn, TxnAnswer).succeeded:
                self.numbers = wanted
                return
        raise NobodyCan("others number the members in the same moment")

    def _load(
        self, ask: Callable[[str, Range, type[RangeAnswer]], RangeAnswer]
    ) -> tuple[Numbers, int]:
        """Read them, and the revision that they are of: 0 where there are none yet."""
        is_stale = ask == self._endpoints.peek
        answer = ask(RANGE, Range(self._key, serializable=is_stale), RangeAnswer)
        if not answer.kvs:
            self.numbers = Numbers()
            return Numbers(), 0
        try:
            numbers = _numbers.decode(answer.kvs[0].value)
        except msgspec.DecodeError as error:
            key = self._key.decode()
            raise NobodyCan(f"no numbers of members are under {key} in etcd") from error
        self.numbers = numbers
        return numbers, answer.kvs[0].mod_revision


def _order(member: Member) -> tuple[list[tuple[int, str]], int]:
    """By name, numbers in it as numbers; a member that was never started comes last."""
    parts = re.findall(r"\d+|\D+", member.name or "\uffff")
    words = [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]
    return words, member.number
