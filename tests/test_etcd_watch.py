"""What is seen of the members, and the order in which they are asked after it."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest

from backends.endpoints import NO_LEADER, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import (
    RANGE,
    STATUS,
    Header,
    Member,
    MemberList,
    RangeAnswer,
    Status,
)
from backends.roster import Roster
from backends.watch import MEMBERS, PROBE_SECONDS_MAX, Watch
from cluster.events import EventLog

A, B, C, D = urls = "http://a:1", "http://b:2", "http://c:3", "http://d:4"
ALL = (A, B, C)
ERRORS = (NotSent("refused"), NoAnswer("timed out"), EtcdError("what is that"))


class Cluster:
    """What each member says, and what was asked and arranged."""

    def __init__(self):
        self.members = {
            number: Member(number, f"node-{number}", client_urls=(url,))
            for number, url in zip((1, 2, 3), ALL, strict=True)
        }
        self.says = {}
        for number in (1, 2, 3):
            self.tell(number, leader=1)
        self.keys = dict.fromkeys(urls, 5)
        self.events = EventLog(lambda: 0)
        self.asked = []
        self.arranged = None
        self.left = ()
        self.closed = threading.Event()

    def tell(self, number, leader=0, term=2, revision=7, cluster=0, **more):
        self.says[self.url_of(number)] = Status(
            Header(cluster_id=cluster, member_id=number, revision=revision),
            leader=leader,
            term=term,
            **more,
        )

    def url_of(self, number):
        return self.members[number].client_urls[0]

    def ask_one(self, url, path, message, shape, seconds):
        assert seconds <= PROBE_SECONDS_MAX
        self.asked.append((url, path))
        said = self.says.get(url, NotSent("refused"))
        if isinstance(said, Exception):
            raise said
        if path == STATUS:
            return said
        if path == MEMBERS:
            return MemberList(members=tuple(self.members.values()))
        assert path == RANGE
        assert message.count_only
        assert message.serializable  # what this very member has
        return RangeAnswer(said.header, count=self.keys[url])

    def arrange(self, wanted, silent=(), leader=NO_LEADER):
        self.arranged = SimpleNamespace(
            urls=tuple(wanted), silent=set(silent), leader=leader
        )

    def leave(self, left, trouble=""):
        self.left = tuple(left)

    def peek(self, *_):
        raise NobodyCan("the numbers are not asked for here")

    def lead(self, number, term=2):
        """Those that answer follow this one."""
        for each in self.members:
            if isinstance(self.says[self.url_of(each)], Status):
                self.tell(each, leader=number, term=term)


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def opened(cluster):
    made = []

    def watch(base=ALL, failed=None):
        roster = Roster(cluster, b"kv/")
        made.append(
            Watch(
                cluster,
                roster,
                b"kv/k/",
                cluster.events,
                lambda: base,
                failed=lambda: {} if failed is None else failed,
            )
        )
        return made[-1]

    yield watch
    for each in made:
        each.close()


def kinds(cluster):
    return [event.kind for event in cluster.events.since(0)]


# --- The order ---------------------------------------------------------------------------


def test_leader_is_asked_first_whoever_it_is(cluster, opened):
    watch = opened()

    for number, url in ((1, A), (3, C), (2, B)):
        cluster.lead(number)
        watch.look()
        assert cluster.arranged.urls[0] == url
        assert cluster.arranged.leader == (url, number)
        assert sorted(cluster.arranged.urls) == sorted(ALL)


def test_learner_that_can_do_nothing_and_who_knows_no_leader_come_after_the_others(
    cluster, opened
):
    cluster.members[1] = Member(1, "node-1", client_urls=(A,), is_learner=True)
    cluster.tell(1, leader=3)
    cluster.tell(2, leader=3)
    cluster.tell(3, leader=3)

    opened().look()
    assert cluster.arranged.urls == (C, B, A)

    cluster.tell(2, leader=0)
    opened().look()
    assert cluster.arranged.urls[0] == C


@pytest.mark.parametrize("error", ERRORS)
def test_silent_member_is_last_and_gets_no_write(cluster, opened, error):
    watch = opened()
    watch.look()
    cluster.says[A] = error
    cluster.lead(2)

    view = watch.look()

    assert cluster.arranged.urls == (B, C, A)
    assert cluster.arranged.silent == {A}
    assert view.of(0) is not None
    assert view.of(0).status is None
    assert view.of(0).trouble == str(error)


def test_of_two_that_say_they_lead_the_one_of_the_later_term_does(cluster, opened):
    cluster.tell(1, leader=1, term=2)  # it was cut off, and has not heard of it yet
    cluster.tell(2, leader=2, term=3)
    cluster.tell(3, leader=2, term=3)

    view = opened().look()

    assert view.leader.member.number == 2
    assert cluster.arranged.leader == (B, 2)


def test_leader_that_is_gone_is_remembered_until_another_one_leads(cluster, opened):
    watch = opened()
    watch.look()
    cluster.says[A] = NotSent("refused")
    cluster.tell(2, leader=1)  # which it still believes in
    cluster.tell(3, leader=0)

    view = watch.look()

    assert view.leader is None
    assert cluster.arranged.leader == (A, 1)
    assert cluster.arranged.silent == {A}
    cluster.lead(3, term=3)
    watch.look()
    assert cluster.arranged.leader == (C, 3)


def test_only_what_was_named_is_asked_for_keys_and_other_members_are_looked_at(
    cluster, opened
):
    view = opened(base=(B,)).look()

    assert cluster.arranged.urls == (B,)
    assert [each.url for each in view.seen] == [A, B, C]
    assert all(each.status is not None for each in view.seen)


def test_member_is_where_it_answers_and_not_where_it_says_that_it_is(cluster, opened):
    cluster.members[1] = Member(1, "node-1", client_urls=("http://inside:2379",))
    watch = opened()

    assert watch.look().of(0).url == A
    cluster.says[A] = NotSent("refused")
    view = watch.look()

    assert (view.of(0).url, view.of(0).status) == (A, None)


# --- What is seen ------------------------------------------------------------------------


def test_nobody_who_answers_is_no_error_and_what_was_known_stays(cluster, opened):
    watch = opened()
    assert watch.look().leader is not None
    cluster.says = dict.fromkeys(ALL, NotSent("refused"))

    view = watch.look()

    assert [each.status for each in view.seen] == [None] * 3
    assert [each.last.term for each in view.seen] == [2] * 3
    assert (view.leader, view.revision) == (None, 7)
    assert cluster.arranged.silent == set(ALL)


def test_service_that_starts_before_any_member_asks_each_once_it_said_what_it_is(
    cluster, opened
):
    told, cluster.says = cluster.says, {}
    watch = opened()

    assert watch.look().seen == ()
    assert cluster.arranged.urls == ()
    assert watch.named == 3
    cluster.says = told
    assert len(watch.look().seen) == 3
    assert cluster.arranged.urls == ALL


def test_members_are_listed_by_the_leader_who_hears_of_changes_first(cluster, opened):
    cluster.lead(3)

    opened().look()

    assert [url for url, path in cluster.asked if path == MEMBERS] == [C]


def test_member_that_was_added_and_never_started_is_told_as_silent(cluster, opened):
    cluster.members[4] = Member(4, "", peer_urls=("http://d:5",))
    cluster.says[D] = NotSent("refused")

    view = opened().look()

    assert [each.member.number for each in view.seen] == [1, 2, 3, 4]
    assert view.of(3).trouble == "it has not been started yet"
    assert cluster.arranged.silent == set()


def test_look_that_is_fresh_enough_asks_nobody_again(cluster, opened):
    watch = opened()
    watch.look()
    count = len(cluster.asked)

    watch.look(within=3_600.0)
    assert len(cluster.asked) == count
    watch.look()
    assert len(cluster.asked) == 2 * count


def test_keys_are_counted_again_only_where_something_changed(cluster, opened):
    watch = opened()

    def counted(look):
        cluster.asked.clear()
        view = look()
        paths = [url for url, path in cluster.asked if path == RANGE]
        return [each.keys for each in view.seen], sorted(paths)

    assert counted(watch.look) == ([None] * 3, [])
    assert counted(lambda: watch.look(count=True)) == ([5] * 3, [A, B, C])
    assert counted(lambda: watch.look(count=True)) == ([5] * 3, [])
    cluster.tell(2, leader=1, revision=8)
    cluster.keys[B] = 6
    assert counted(lambda: watch.look(count=True)) == ([5, 6, 5], [B])
    cluster.says[B] = NotSent("refused")
    assert counted(lambda: watch.look(count=True)) == ([5, 6, 5], [])


# --- Of another cluster ------------------------------------------------------------------


def test_member_of_another_cluster_is_never_asked_for_keys_and_told_once(
    cluster, opened
):
    cluster.tell(1, leader=1, cluster=5)
    cluster.tell(2, leader=2, cluster=6)  # which is another cluster of its own
    cluster.says[C] = NotSent("refused")
    watch = opened()

    views = [watch.look(), watch.look()]

    assert cluster.arranged.urls == (A,)
    assert set(cluster.left) == {B, C}
    assert [view.of(1).status for view in views] == [None, None]
    assert kinds(cluster).count("wrong_cluster") == 1
    assert B in cluster.events.since(0)[0].detail


def test_member_of_another_cluster_is_left_before_numbers_are_asked_for(
    cluster, opened
):
    cluster.tell(1, leader=1, cluster=5)
    cluster.tell(2, leader=2, cluster=6)  # that could answer, where the first cannot
    left_at_peek = []

    def peek(*_):
        left_at_peek.append(cluster.left)
        return RangeAnswer()

    cluster.peek = peek
    cluster.read = cluster.change = lambda *_: None

    with pytest.raises(AttributeError):  # of the None, when they are to be kept
        opened(base=(A, B)).look()

    assert left_at_peek == [(B,)]


def test_member_that_began_anew_in_another_cluster_gets_nothing_from_then_on(
    cluster, opened
):
    for number in (1, 2, 3):
        cluster.tell(number, leader=1, cluster=5)
    watch = opened()
    watch.look()
    cluster.tell(2, leader=2, cluster=6)
    watch.look()

    assert cluster.arranged.urls == (A, C)
    cluster.tell(2, leader=1, cluster=5)  # and it is back
    watch.look()
    assert set(cluster.arranged.urls) == set(ALL)


def test_cluster_that_was_begun_anew_here_is_not_taken_for_a_strange_one(
    cluster, opened
):
    for number in (1, 2, 3):
        cluster.tell(number, leader=1, cluster=5, committed=1_000)
    watch = opened()
    watch.look()
    cluster.says = {}
    cluster.tell(2, leader=2, cluster=6, committed=3)
    cluster.members = {2: cluster.members[2]}

    watch.begin_anew()
    view = watch.look()

    assert (view.leader.member.number, view.committed) == (2, 3)
    assert cluster.arranged.urls == (B,)
    assert "wrong_cluster" not in kinds(cluster)


# --- What is told ------------------------------------------------------------------------


def test_silence_and_return_of_a_member_are_told_once_each(cluster, opened):
    watch = opened()
    watch.look()
    first = kinds(cluster)
    cluster.says[C] = NoAnswer("timed out")
    watch.look()
    watch.look()
    cluster.tell(3, leader=1)
    watch.look()

    assert first == ["leader_elected"]
    assert kinds(cluster) == ["leader_elected", "member_silent", "member_back"]
    assert "timed out" in cluster.events.since(0)[1].detail


def test_silence_of_a_member_that_was_failed_here_is_no_news(cluster, opened):
    failed: dict[int, str] = {}
    watch = opened(failed=failed)
    watch.look()
    failed[2] = C
    cluster.says[C] = NotSent("refused")
    watch.look()

    assert kinds(cluster) == ["leader_elected"]


def test_loss_of_the_leader_is_told_once_and_an_election_too(cluster, opened):
    watch = opened()
    watch.look()
    cluster.says[A] = NotSent("refused")
    cluster.tell(2)
    cluster.tell(3)
    watch.look()
    watch.look()
    cluster.lead(2, term=3)
    watch.look()
    watch.look()

    assert kinds(cluster) == [
        "leader_elected", "member_silent", "leader_lost", "leader_elected",
    ]  # fmt: skip
    assert cluster.events.since(0)[-1].detail == "node 1 leads, in term 3"


def test_quota_is_used_up_while_a_member_says_so_and_no_longer(cluster, opened):
    watch = opened()
    found = []
    for errors in ((), ("memberID:1 alarm:NOSPACE ",), ()):
        cluster.tell(2, leader=1, errors=errors)
        watch.look()
        found.append(watch.quota.is_full)

    assert found == [False, True, False]


def test_look_with_a_silent_member_is_shared_by_all_who_wait_for_it(cluster, opened):
    began, go_on = threading.Event(), threading.Event()
    answer, statuses = cluster.ask_one, []

    def ask_one(url, path, *rest):
        if path == STATUS and url == C:
            statuses.append(url)
            began.set()
            assert go_on.wait(10.0)
        return answer(url, path, *rest)

    cluster.ask_one = ask_one
    watch = opened()
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append(watch.look())) for _ in range(16)
    ]
    threads[0].start()
    assert began.wait(10.0)
    for thread in threads[1:]:
        thread.start()
    wait_for_the_lock(15)
    go_on.set()
    for thread in threads:
        thread.join(10.0)

    assert len(seen) == 16
    assert len(statuses) == 2  # the one that was under way is too old for the others
    watch.look()
    assert len(statuses) == 3


def wait_for_the_lock(count):
    """Until so many threads have come as far as they can."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        frames = sys._current_frames().values()
        if sum(frame.f_code.co_name == "look" for frame in frames) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("they do not all look")


def test_looks_of_many_threads_leave_one_view_and_no_thread_after_closing(
    cluster, opened
):
    before = threading.active_count()
    watch = opened()
    views = []
    threads = [
        threading.Thread(target=lambda: views.append(watch.look())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {len(view.seen) for view in views} == {3}
    assert kinds(cluster) == ["leader_elected"]
    watch.close()
    watch.close()
    assert threading.active_count() == before
