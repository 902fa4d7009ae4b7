"""Members that fail, come and go: what is told of it when etcd is silent or refuses."""

from typing import Any

import msgspec
import pytest

from backends import asking, changes
from backends.asking import ADD, REMOVE
from backends.changes import Changes
from backends.endpoints import NobodyCan
from backends.etcd import EtcdEngine
from backends.gateway import EtcdError, NoAnswer
from backends.local import WrongState
from backends.members import Members
from backends.messages import TXN, Member
from backends.roster import Numbers, Roster, name_of
from backends.watch import View, Watch
from cluster.events import EventLog
from config import is_member_url
from models import DataLost, InvalidRequest, StoreError, Unavailable, Uncertain
from processes.server import ProcessFailed
from tests.played_etcd import PlayedEtcd, PlayedLocal, client_url, peer_url

URL = "http://10.0.0.4:2380"
FULL = EtcdError(EtcdError.NO_SPACE)
SILENCE = NoAnswer("timed out")
UNHEALTHY = EtcdError("etcdserver: unhealthy cluster")


def unchecked(stand_in: Any) -> Any:
    """What stands in for something of another type."""
    return stand_in


class PlayedKeys:
    """Keys of which only the time by which they end is asked."""

    ahead_seconds = 2.0


class Played:
    """An engine over a played etcd, with its members here or elsewhere."""

    def __init__(self, *, is_local, count=3):
        self.etcd = unchecked(PlayedEtcd(count))
        self.local = unchecked(PlayedLocal(self.etcd) if is_local else None)
        named = tuple(client_url(n) for n in self.etcd.members)
        self.events = EventLog(lambda: 0)
        self.roster = Roster(self.etcd, b"kv/")

        def base():
            return named if self.local is None else [*self.local.client_urls.values()]

        self.watch = Watch(
            self.etcd, self.roster, b"kv/k/", self.events, base,
            failed=dict,
        )  # fmt: skip
        self.members = Members(self.etcd, self.watch, self.local, self.events)
        self.changes = Changes(
            self.etcd, self.members, self.roster, self.local, 1 << 30
        )
        none, keys = unchecked(None), unchecked(PlayedKeys())
        self.engine = EtcdEngine(none, self.etcd, keys, self.members, self.changes)

    def kinds(self):
        return [event.kind for event in self.events.since(0)]

    def saved(self):
        return msgspec.json.decode(self.etcd.value, type=Numbers)


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setattr(asking, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(asking, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(changes, "CATCH_UP_SECONDS", 0.2)
    monkeypatch.setattr(changes, "ALONE_SECONDS", 0.05)
    monkeypatch.setattr(changes, "UPKEEP_SECONDS", 0.001)
    made = []

    def play(*, is_local=True, count=3):
        made.append(Played(is_local=is_local, count=count))
        made[-1].watch.look()
        return made[-1]

    yield play
    for each in made:
        each.watch.close()


# --- Failed, and back --------------------------------------------------------------------


def test_loss_is_not_accepted_of_members_that_only_stand_still(opened):
    play = opened()
    for node_id in range(3):
        play.local.set(node_id, "stopped")
    play.watch.begin_anew()  # as after a restart: nobody was ever heard

    play.engine.recover(0, accept_loss=True)

    assert play.local.did == [("launch", 0)]
    assert "loss_accepted" not in play.kinds()


def test_loss_is_accepted_where_a_majority_lost_its_data_though_nobody_was_heard(
    opened,
):
    play = opened()
    for node_id, state in enumerate(("stopped", "wiped", "wiped")):
        play.local.set(node_id, state)
    play.watch.begin_anew()

    play.engine.recover(0, accept_loss=True)

    assert play.local.did == [("take_for_truth", 0)]


def lose_two_of_three(play):
    """Nodes 0 and 1 are wiped; node 2 runs, and nobody leads."""
    play.local.set(0, "wiped")
    play.local.set(1, "wiped")
    play.etcd.leader = 0
    play.watch.look()


@pytest.mark.parametrize("what", ["recover", "add", "remove"])
def test_change_that_no_majority_can_decide_any_more_is_told_as_lost_data(opened, what):
    play = opened()
    lose_two_of_three(play)
    play.etcd.troubles[ADD] = [NobodyCan("no leader")] * 10
    acts = {
        "recover": lambda: play.engine.recover(0),
        "add": play.engine.add_node,
        "remove": lambda: play.engine.remove_node(0),
    }

    with pytest.raises(DataLost, match=r"whole: \[2\D"):
        acts[what]()


def test_change_that_waits_for_another_one_is_worth_trying_again_though_data_are_lost(
    opened, monkeypatch
):
    play = opened()
    lose_two_of_three(play)
    monkeypatch.setattr(changes, "QUEUE_SECONDS", 0.001)

    with play.changes._alone(), pytest.raises(Unavailable) as caught:
        play.engine.recover(2, accept_loss=True)

    assert caught.value.code == "unavailable"


def test_member_waits_for_those_with_data_and_for_nobody_once_a_majority_lost_theirs(
    opened,
):
    play = opened()
    play.local.set(0, "wiped")
    play.local.set(1, "stopped")
    play.etcd.leader = 0

    waiting = play.engine.nodes()
    play.local.set(1, "wiped")
    in_vain = play.engine.nodes()

    assert [node.waiting_for for node in waiting] == [(), (), (1,)]
    assert [node.waiting_for for node in in_vain] == [(), (), ()]
    assert {node.lost_shards for node in waiting} == {0}
    assert {node.lost_shards for node in in_vain} == {1}
    assert play.engine.shards().shards[0].lost
    assert play.engine.measures().shards.lost == 1
    assert play.engine.measures().clock_ahead_seconds == 2.0


def test_members_of_which_nobody_was_heard_tell_that_their_data_are_lost(opened):
    play = opened()
    for node_id in range(3):
        play.local.set(node_id, "wiped")
    play.watch.begin_anew()  # as after a restart

    assert {node.lost_shards for node in play.engine.nodes()} == {1}


def test_data_of_members_elsewhere_are_not_called_lost_because_nobody_was_ever_heard(
    opened,
):
    play = opened(is_local=False)
    play.etcd.up.clear()
    play.watch.begin_anew()  # as after a start

    assert not play.members.is_lost(View())
    assert play.members.lost(View()) is None
    assert play.members.lost() is None
    assert not play.engine.shards().shards[0].lost
    assert play.engine.measures().shards.lost == 0
    play.changes._keep_up_once()
    assert "data_lost" not in play.kinds()


def test_loss_is_an_event_once_and_again_only_if_data_are_lost_again(opened):
    play = opened()
    play.changes._keep_up_once()
    lose_two_of_three(play)

    for _ in range(3):
        play.changes._keep_up_once()

    assert play.kinds().count("data_lost") == 1
    play.etcd.leader = 3
    for node_id in (0, 1):
        play.local.set(node_id, "running", pid=1)
    play.changes._keep_up_once()
    lose_two_of_three(play)
    play.changes._keep_up_once()
    assert play.kinds().count("data_lost") == 2


def test_loss_that_was_accepted_is_none_any_more_before_anybody_has_answered(opened):
    play = opened()
    lose_two_of_three(play)
    lost = play.members.lost(play.watch.look())

    play.members.begin_anew(2)

    assert isinstance(lost, DataLost)
    assert play.members.lost(View()) is None


def test_member_whose_process_died_while_it_was_paused_is_started_again(opened):
    play = opened()
    play.local.set(1, "paused", pid=None)
    play.engine.recover(1)
    play.local.set(1, "paused", pid=5)
    play.engine.recover(1)

    assert play.local.did == [("launch", 1), ("resume", 1)]


def test_member_that_ends_in_the_moment_in_which_it_is_resumed_is_no_failure_of_ours(
    opened, monkeypatch
):
    play = opened()
    play.local.set(1, "paused", pid=5)

    def resume(node_id):
        raise WrongState("cannot resume when it has no process")

    monkeypatch.setattr(play.local, "resume", resume)

    with pytest.raises(Unavailable):
        play.engine.recover(1)


def test_wiped_member_that_comes_back_while_etcd_is_full_joins_once(opened):
    play = opened()
    play.local.set(1, "wiped")
    play.etcd.troubles[TXN] = [FULL] * 100

    for _ in range(3):
        assert play.engine.recover(1).node_id == 1
        play.changes._keep_up_once()

    assert play.etcd.asked.count(REMOVE) == 1
    assert play.etcd.asked.count(ADD) == 1
    assert not any(each.is_learner for each in play.etcd.members.values())
    play.etcd.troubles.clear()  # there is room again
    for _ in range(2):
        play.changes._keep_up_once()
    assert play.engine.recover(1).status == "up"
    assert sorted(play.saved().members.values()) == [0, 1, 2]


def test_wiped_member_joins_under_its_number_and_wastes_none(opened):
    play = opened()
    play.local.set(1, "wiped")

    play.engine.recover(1)

    assert sorted(play.saved().members.values()) == [0, 1, 2]
    assert play.saved().next == 3


def test_member_keeps_its_number_in_a_cluster_that_begins_anew_with_it(opened):
    play = opened()
    for node_id in range(3):
        play.local.set(node_id, "wiped")
    take = play.local.take_for_truth

    def anew(node_id):
        play.etcd.members = {77: Member(77, "node-2", (peer_url(3),))}
        play.etcd.leader, play.etcd.value, play.etcd.revision = 77, None, 0
        take(node_id)

    play.local.take_for_truth = anew
    node = play.engine.recover(2, accept_loss=True)

    assert (node.node_id, node.status) == (2, "up")
    assert play.saved().members == {name_of(77): 2}


@pytest.mark.parametrize("trouble", [FULL, SILENCE, NobodyCan("no leader"), UNHEALTHY])
@pytest.mark.parametrize("path", [ADD, REMOVE, TXN])
@pytest.mark.parametrize("what", ["recover", "add", "remove", "join"])
def test_whatever_etcd_says_of_a_change_is_told_in_words_of_the_api(
    opened, what, path, trouble
):
    play = opened(is_local=what != "join")
    play.etcd.troubles[path] = [trouble] * 10_000
    if what == "recover":
        play.local.set(1, "wiped")
    act = {
        "recover": lambda: play.engine.recover(1),
        "add": lambda: play.engine.add_node(),
        "remove": lambda: play.engine.remove_node(1),
        "join": lambda: play.engine.add_node(URL),
    }
    try:
        act[what]()
    except StoreError:
        return
    assert path not in {"add": (ADD,), "remove": (REMOVE,)}.get(what, ())


# --- Added -------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [FULL, SILENCE, NobodyCan("no leader")])
def test_member_that_was_added_is_not_forgotten_because_its_number_cannot_be_kept(
    opened, trouble
):
    play = opened()
    play.etcd.troubles[TXN] = [trouble] * 100

    node = play.engine.add_node()

    assert node.node_id == 3
    assert play.local.did == [("launch", 3)]
    assert len(play.etcd.members) == 4


def test_member_that_etcd_refused_leaves_nothing_behind(opened):
    play = opened()
    play.etcd.troubles[ADD] = [UNHEALTHY] * 10_000

    with pytest.raises(Unavailable):
        play.engine.add_node()

    assert play.local.did == [("forget", 3)]


def test_member_of_which_nobody_knows_whether_it_was_added_is_not_called_refused(
    opened,
):
    play = opened()
    play.etcd.troubles[ADD] = [SILENCE, *[UNHEALTHY] * 10_000]

    with pytest.raises(Uncertain):
        play.engine.add_node()

    assert play.local.did == []


def test_addition_that_was_done_in_silence_is_found_and_not_done_twice(opened):
    play = opened(is_local=False)
    play.etcd.troubles[ADD] = [SILENCE]
    play.etcd.after_it_was_done = {ADD}

    assert play.engine.add_node(URL).node_id == 3
    assert play.etcd.asked.count(ADD) == 1


def test_addition_that_was_done_is_not_called_undone_where_nobody_has_heard_of_it_yet(
    opened, monkeypatch
):
    play = opened(is_local=False)
    before = tuple(play.etcd.members.values())
    monkeypatch.setattr(play.watch, "_list", lambda urls: before)

    node = play.engine.add_node(URL)

    assert (node.node_id, node.status) == (3, "down")
    assert play.etcd.asked.count(ADD) == 1


@pytest.mark.parametrize("what", ["fail", "recover", "add", "remove"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), ProcessFailed("x")])
def test_change_that_the_machine_refuses_midway_is_told_as_perhaps_half_done(
    opened, monkeypatch, what, error
):
    play = opened()

    def refuse(*_arguments, **_more):
        raise error

    for step in ("kill", "wipe", "pause", "launch", "add", "forget"):
        monkeypatch.setattr(play.local, step, refuse, raising=False)
    if what == "recover":
        play.local.set(0, "stopped")
    asked = {
        "fail": lambda: play.engine.fail(0),
        "recover": lambda: play.engine.recover(0),
        "add": play.engine.add_node,
        "remove": lambda: play.engine.remove_node(0),
    }

    with pytest.raises(Uncertain, match="half done"):
        asked[what]()


def test_member_that_was_there_before_is_not_taken_for_the_one_that_is_added(opened):
    play = opened(is_local=False)
    play.watch.look()
    lookalike = Member(50, "old", (URL,))
    asked = play.changes._asking
    play.etcd.members[50] = lookalike
    play.etcd.troubles[ADD] = [SILENCE, SILENCE]

    with pytest.raises(NoAnswer):
        asked.add(URL)


def test_learner_that_is_known_already_becomes_a_voter_when_it_is_asked_for(opened):
    play = opened(is_local=False)
    play.etcd.members[9] = Member(9, "", (URL,), is_learner=True)

    node = play.engine.add_node(f"{URL}/")

    assert node.node_id == 3
    assert play.saved().joining == (name_of(9),)
    assert ADD not in play.etcd.asked


def test_voter_that_is_known_already_is_told_of_and_left_alone(opened):
    play = opened(is_local=False)
    play.etcd.members[9] = Member(9, "x", (URL,))

    assert play.engine.add_node(URL).node_id == 3
    assert play.saved().joining == ()


def test_member_that_is_added_here_gets_no_number_that_another_service_gave(opened):
    here = opened()
    there = Roster(here.etcd, b"kv/")
    there.change(lambda numbers: Numbers(numbers.members, 8, ()))  # four came and went

    node = here.engine.add_node()

    assert node.node_id >= 8
    assert node.node_id not in (0, 1, 2)
    assert here.local.least == [8]
    assert sorted(here.saved().members.values()) == [0, 1, 2, node.node_id]


@pytest.mark.parametrize(
    "url",
    [None, "", "http://10.0.0.4", "http://10.0.0.4:0", "http://10.0.0.4:99999",
     "http://10.0.0.4:65536", "10.0.0.4:2380", f"{URL}/path", "ftp://a:1"],
)  # fmt: skip
def test_url_at_which_no_member_can_be_is_refused_and_nothing_asked(opened, url):
    play = opened(is_local=False)
    asked = list(play.etcd.asked)

    with pytest.raises(InvalidRequest):
        play.engine.add_node(url)

    assert play.etcd.asked == asked


def test_ports_that_there_are_can_be_those_of_a_member():
    assert all(is_member_url(f"http://a:{port}") for port in (1, 2380, 65_535))


# --- Removed -----------------------------------------------------------------------------


def test_removal_while_nobody_leads_is_refused_and_forgets_nothing(opened):
    play = opened()
    play.etcd.leader = 0

    with pytest.raises(Unavailable, match="nobody leads"):
        play.engine.remove_node(1)

    assert play.local.did == []
    assert REMOVE not in play.etcd.asked


@pytest.mark.parametrize("then", [NobodyCan("no leader"), UNHEALTHY])
def test_removal_that_may_have_been_done_is_not_called_undone(opened, then):
    play = opened()
    play.etcd.troubles[REMOVE] = [SILENCE, *[then] * 10_000]

    with pytest.raises(Uncertain):
        play.engine.remove_node(1)

    assert play.local.did == []


def test_removal_that_was_done_in_silence_is_found_done(opened):
    play = opened()
    play.etcd.troubles[REMOVE] = [SILENCE]
    play.etcd.after_it_was_done = {REMOVE}

    assert play.engine.remove_node(1).node_id == 1
    assert play.local.did == [("forget", 1)]


# --- Upkeep ------------------------------------------------------------------------------


def test_upkeep_goes_on_whatever_goes_wrong_in_one_round(opened, monkeypatch):
    play = opened()
    rounds = []
    look = play.watch.look

    def broken(**_):
        rounds.append(1)
        if len(rounds) < 3:
            raise ZeroDivisionError("a mistake of ours")
        if len(rounds) == 3:
            play.changes._ended.set()
        return look()

    monkeypatch.setattr(play.watch, "look", broken)
    play.changes.start()
    play.changes._upkeep.join(10.0)

    assert len(rounds) == 3


def test_member_that_was_given_another_number_here_gets_its_own_back(opened):
    play = opened()
    wrong = {name_of(1): 2, name_of(2): 1, name_of(3): 0}
    play.roster.change(lambda _: Numbers(wrong, 3, ()))
    play.watch.look()

    for _ in range(3):
        play.changes._keep_up_once()

    assert play.saved().members == {name_of(1): 0, name_of(2): 1, name_of(3): 2}
