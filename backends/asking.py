"""To have members of etcd added and removed: asked patiently, and never told for undone.

A leader that has yet to apply another such change, perhaps of another service, drops this
one and says nothing; and in the seconds after one etcd refuses the next.
"""

from __future__ import annotations

import threading
import time
from typing import TypeVar

from backends.endpoints import Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer
from backends.members import Members
from backends.messages import MemberAdd, MemberId, MemberList, Message
from models import TooFewNodes, Unavailable

T = TypeVar("T", bound=Message)
ADD, REMOVE, PROMOTE = (
    f"/v3/cluster/member/{what}" for what in ("add", "remove", "promote")
)
SETTLE_SECONDS = 10.0  # for etcd to call a cluster healthy after a change: 5, it says
AGAIN_SECONDS = 0.2
TOO_FEW = "etcdserver: re-configuration failed due to not enough started members"
GONE = "etcdserver: member not found"
# What etcd says of a change of members that it may take a little later.
NOT_NOW = frozenset(
    (
        # Of one that is added: its id is made of its URL and the second, and the one that
        # was added in the same second, and removed, had that id.
        GONE,
        "etcdserver: unhealthy cluster",
        "etcdserver: too many learner members in cluster",
        "etcdserver: can only promote a learner member which is in sync with leader",
    )
)


class Asking:
    """Asks for changes of members until they are done, refused, or `ended` is set.

    NoAnswer if one may have been done; NobodyCan and a StoreError if it was not.
    """

    def __init__(
        self, endpoints: Endpoints, members: Members, ended: threading.Event
    ) -> None:
        self._endpoints = endpoints
        self._members = members
        self._ended = ended

    def remove(self, number: int) -> None:
        """Remove a member; asked again if etcd is silent: then it may be gone already."""
        deadline = time.monotonic() + SETTLE_SECONDS
        silence: NoAnswer | None = None
        while True:
            try:
                self._ask(REMOVE, MemberId(number), MemberList, fine=GONE)
            except NoAnswer as error:
                silence = error
                if time.monotonic() > deadline or self._ended.wait(AGAIN_SECONDS):
                    raise
            except (NobodyCan, TooFewNodes, Unavailable):
                if silence is not None:  # that one may have been done
                    raise silence from None
                raise
            else:
                return

    def add(self, url: str) -> int:
        """Add a learner at a peer URL; its id. Asked a second time after a silence."""
        before = {each.number for each in self._members.listed()}
        silence: NoAnswer | None = None
        for _ in range(2):
            try:
                added = self._ask(ADD, MemberAdd((url,), True), MemberList)
            except NoAnswer as error:
                silence = error
            except (NobodyCan, TooFewNodes, Unavailable):
                if silence is None:
                    raise
            else:
                assert added.member is not None, "etcd names the member that it added"
                return added.member.number
            for each in self._members.listed():
                if url in each.peer_urls and each.number not in before:
                    return each.number
        assert silence is not None, "or it would have been added or refused"
        raise silence

    def _ask(
        self, path: str, message: Message, shape: type[T], fine: str | None = None
    ) -> T:
        """A change of members, patiently; an error that is `fine` is no error."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return self._endpoints.change(path, message, shape)
            except EtcdError as error:
                if error.message == fine:
                    return shape()
                if error.message == TOO_FEW:
                    raise TooFewNodes(f"etcd refuses: {error.message}") from error
                if error.message not in NOT_NOW or time.monotonic() > deadline:
                    raise Unavailable(
                        f"etcd refuses for now: {error.message}; nothing was done"
                    ) from error
            if self._ended.wait(AGAIN_SECONDS):
                raise Unavailable("the service ends; nothing was done")
