"""Room for members that run here, once keys were deleted after their quota was used up.

etcd takes no more writes then, and goes on refusing them however much is deleted: until
its history is compacted, each member's file is defragmented, and the alarm is disarmed.
Whoever runs the members does that, so for those of here it is done here.
https://etcd.io/docs/v3.4/op-guide/maintenance/#space-quota
"""

from __future__ import annotations

import time

from backends.endpoints import Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import Alarm, Alarms, Compaction, Empty, PutAnswer
from backends.watch import NO_SPACE, View, Watch

ALARM = "/v3/maintenance/alarm"
COMPACT = "/v3/kv/compaction"
DEFRAGMENT = "/v3/maintenance/defragment"
DEFRAGMENT_SECONDS_MAX = 60.0  # 8 GiB on a slow disk; a member stands still meanwhile
AGAIN_SECONDS = 5.0  # between two attempts that may come to nothing
FULL = 0.9  # of the quota: above it room would last for a moment only


class Room:
    """Makes room for the members of here, one attempt at a time."""

    def __init__(self, endpoints: Endpoints, watch: Watch, quota_bytes: int) -> None:
        self._endpoints = endpoints
        self._watch = watch
        self._quota_bytes = quota_bytes
        self._tried_at = -1  # the revision of the last attempt
        self._not_before = 0.0  # monotonic

    def make(self, view: View) -> bool:
        """True if writes are taken again that were refused. Never an error.

        Cheap while there is nothing to be had, so it may be tried again and again.
        """
        if view.leader is None or not any(each.is_full for each in view.seen):
            return False
        try:
            return self._make(view.revision)
        except (NobodyCan, NotSent, NoAnswer, EtcdError):
            return False  # as it was: it will be tried again

    def _make(self, revision: int) -> bool:
        _compact(self._endpoints, revision)
        now = self._watch.look()
        held = [each.status.size_in_use for each in now.seen if each.status]
        # It may tell what it held before, for as long as nothing else is written: so it is
        # tried all the same, if anything was deleted since the last time.
        is_too_soon = revision == self._tried_at or time.monotonic() < self._not_before
        if max(held, default=0) > FULL * self._quota_bytes and is_too_soon:
            return False
        self._tried_at = revision
        self._not_before = time.monotonic() + AGAIN_SECONDS
        # The leader last: it stands still meanwhile, and another one may take over.
        for each in sorted(now.seen, key=lambda each: each.is_leader):
            if each.status is not None:
                self._endpoints.ask_one(
                    each.url, DEFRAGMENT, Empty(), PutAnswer, DEFRAGMENT_SECONDS_MAX
                )
        sizes = [each.status.size for each in self._watch.look().seen if each.status]
        if max(sizes, default=0) > FULL * self._quota_bytes:
            return False
        for alarm in self._endpoints.read(ALARM, Alarm("GET"), Alarms).alarms:
            if alarm.alarm == NO_SPACE:
                off = Alarm("DEACTIVATE", alarm.member, NO_SPACE)
                self._endpoints.change(ALARM, off, PutAnswer)
        return True


def _compact(endpoints: Endpoints, revision: int) -> None:
    try:
        endpoints.change(COMPACT, Compaction(revision, True), PutAnswer)
    except EtcdError as error:
        if error.message != EtcdError.COMPACTED:
            raise
