"""Room for members that run here, once keys were deleted after their quota was used up.

etcd takes no more writes then, and goes on refusing them however much is deleted: until
its history is compacted, each member's file is defragmented, and the alarm is disarmed.
Whoever runs the members does that, so for those of here it is done here.
https://etcd.io/docs/v3.4/op-guide/maintenance/#space-quota
"""

from __future__ import annotations

from backends.endpoints import Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import Alarm, Alarms, Compaction, Empty, PutAnswer
from backends.watch import NO_SPACE, View, Watch

ALARM = "/v3/maintenance/alarm"
COMPACT = "/v3/kv/compaction"
DEFRAGMENT = "/v3/maintenance/defragment"
DEFRAGMENT_SECONDS_MAX = 60.0  # 8 GiB on a slow disk; a member stands still meanwhile
FULL = 0.9  # of the quota: above it room would last for a moment only


def make_room(endpoints: Endpoints, watch: Watch, view: View, quota_bytes: int) -> bool:
    """True if writes are taken again that were refused. Never an error.

    Cheap while there is nothing to be had, so it may be tried again and again.
    """
    if view.leader is None or not any(each.is_full for each in view.seen):
        return False
    try:
        _compact(endpoints, view.revision)
        now = watch.look()
        held = max((s.status.size_in_use for s in now.seen if s.status), default=0)
        if held > FULL * quota_bytes:
            return False
        # The leader last: it stands still meanwhile, and another one may take over.
        for each in sorted(now.seen, key=lambda each: each.is_leader):
            if each.status is not None:
                endpoints.ask_one(
                    each.url, DEFRAGMENT, Empty(), PutAnswer, DEFRAGMENT_SECONDS_MAX
                )
        for alarm in endpoints.read(ALARM, Alarm("GET"), Alarms).alarms:
            if alarm.alarm == NO_SPACE:
                off = Alarm("DEACTIVATE", alarm.member, NO_SPACE)
                endpoints.change(ALARM, off, PutAnswer)
    except (NobodyCan, NotSent, NoAnswer, EtcdError):
        return False  # as it was: it will be tried again
    return True


def _compact(endpoints: Endpoints, revision: int) -> None:
    try:
        endpoints.change(COMPACT, Compaction(revision, True), PutAnswer)
    except EtcdError as error:
        if error.message != EtcdError.COMPACTED:
            raise
