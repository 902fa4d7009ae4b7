"""Numbers of members: never given twice, and the same for every service that asks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.endpoints import NobodyCan
from backends.gateway import EtcdError, NoAnswer
from backends.messages import (
    TXN,
    Header,
    KeyValue,
    Member,
    RangeAnswer,
    TxnAnswer,
    encode,
)
from backends.roster import (
    TRIES,
    Numbers,
    Roster,
    joined,
    joining,
    name_of,
    numbered,
    replaced,
)

IDS = st.integers(1, (1 << 64) - 1)
# Names as people give them, and any other text.
NAMES = st.one_of(
    st.text(max_size=6),
    st.text("az-0129²٣", max_size=6),
    st.builds("node-{}".format, st.integers(0, 200)),
)
MEMBERS = st.lists(
    st.builds(Member, IDS, NAMES), max_size=8, unique_by=lambda each: each.number
)
POOL = tuple(Member(number, f"n{number % 3}") for number in range(1, 9))
STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(POOL), max_size=5),
        st.tuples(st.sampled_from(POOL), st.integers(0, 20)),
        st.integers(1, 9),
    ),
    max_size=25,
)


def of(numbers, members):
    return [numbers.members[name_of(each.number)] for each in members]


@given(MEMBERS, st.data())
def test_numbers_do_not_depend_on_the_order_in_which_members_are_told(members, data):
    shuffled = data.draw(st.permutations(members))

    assert numbered(Numbers(), members) == numbered(Numbers(), shuffled)


@given(MEMBERS)
def test_new_members_get_the_next_numbers_and_nobody_gets_two(members):
    found = numbered(Numbers(next=4), members)

    assert sorted(of(found, members)) == list(range(4, 4 + len(members)))
    assert found.next == 4 + len(members)
    assert numbered(found, members) == found


@given(MEMBERS, MEMBERS)
def test_member_keeps_its_number_whoever_comes_and_goes(first, second):
    before = numbered(Numbers(), first)
    after = numbered(before, second)

    assert of(after, first) == of(before, first)
    assert before.next <= after.next


@given(STEPS)
def test_number_is_never_given_twice_whatever_happens_to_the_members(steps):
    numbers, ever_given = Numbers(), set()

    for step in steps:
        before = numbers
        match step:
            case (Member() as member, int() as node_id):
                numbers = replaced(numbers, member.number, node_id)
                ever_given.add(node_id)
                assert of(numbers, [member]) == [node_id]
            case int():
                numbers = joining(numbers, step)
                assert numbers.joining.count(name_of(step)) == 1
                assert {*numbers.joining} == {*before.joining, name_of(step)}
                assert name_of(step) not in joined(numbers, step).joining
                assert numbers.members == before.members
            case _:
                numbers = numbered(numbers, step)
                new = {*numbers.members.values()} - {*before.members.values()}
                assert not new & ever_given
                ever_given |= new
                assert numbers.joining == before.joining
        assert before.next <= numbers.next
        assert all(number < numbers.next for number in ever_given)
        assert len({*numbers.members.values()}) == len(numbers.members)


def test_member_that_takes_the_place_of_another_has_its_number_and_that_one_has_none():
    numbers = numbered(Numbers(), [Member(1, "a"), Member(2, "b")])

    numbers = replaced(numbers, 3, 1)

    assert numbers.members == {name_of(1): 0, name_of(3): 1}
    assert numbered(numbers, [Member(2, "b")]).members[name_of(2)] == 2


@pytest.mark.parametrize(
    "names",
    [
        ["node-1", "node-2", "node-10", "node-100"],
        ["a", "b", "node", "node-0", "node-0-1", "node-0-2", "node-1"],
        ["1", "2", "10"],
        ["etcd-9", "etcd-10", ""],  # that one was never started
    ],
)
def test_names_are_numbered_as_people_count_and_not_as_text_sorts(names):
    members = [Member(9 - place, name) for place, name in enumerate(names)]

    assert of(numbered(Numbers(), members), members) == list(range(len(names)))


@given(st.integers(0, 99), st.integers(0, 99))
def test_name_with_the_smaller_number_has_the_smaller_number(one, other):
    members = [Member(1, f"node-{one}"), Member(2, f"node-{other}")]

    first, second = of(numbered(Numbers(), members), members)

    assert (first < second) == (one <= other)


@given(MEMBERS)
def test_numbers_are_the_same_once_they_were_kept_and_read_again(members):
    numbers = joining(numbered(Numbers(), members), 255)

    assert msgspec.json.decode(msgspec.json.encode(numbers), type=Numbers) == numbers


# --- Kept in etcd ------------------------------------------------------------------------


class Etcd:
    """One key of it, changed as a transaction says."""

    def __init__(self):
        self.value = None
        self.revision = 0

    def put(self, value):
        self.value = value
        self.revision += 1


class Asked:
    """What a roster has of `Endpoints`; `between` happens before each change arrives."""

    def __init__(self, etcd, between=lambda: None, trouble=None):
        self.etcd, self.between, self.trouble = etcd, between, trouble
        self.changes = 0

    def peek(self, _path, message, _shape):
        assert message.serializable
        return self._found()

    def read(self, _path, message, _shape):
        if self.trouble is not None:
            raise self.trouble
        assert not message.serializable
        return self._found()

    def change(self, path, txn, _shape):
        if self.trouble is not None:
            raise self.trouble
        self.changes += 1
        self.between()
        (compare,), (done,) = txn.compare, txn.success
        assert (path, compare.target, compare.result) == (TXN, "MOD", "EQUAL")
        assert b'"mod_revision"' in encode(txn)  # or etcd compares something else
        succeeded = compare.mod_revision == self.etcd.revision
        if succeeded:
            self.etcd.put(done.request_put.value)
        return TxnAnswer(Header(), succeeded)

    def _found(self):
        if self.etcd.value is None:
            return RangeAnswer()
        found = KeyValue(b"", self.etcd.value, mod_revision=self.etcd.revision)
        return RangeAnswer(kvs=(found,))


def roster_of(asked):
    return Roster(asked, b"kv/")


@given(MEMBERS, MEMBERS, st.data())
def test_two_services_that_number_members_in_the_same_moment_agree(first, second, data):
    etcd = Etcd()
    other = roster_of(Asked(etcd))
    turns = data.draw(st.lists(st.booleans(), max_size=3))

    def between():
        if turns and turns.pop():
            other.of(second)

    here = roster_of(Asked(etcd, between))
    mine = here.of(first)
    theirs = other.of([*first, *second])

    assert {number: theirs[number] for number in mine} == mine
    assert len({*theirs.values()}) == len(theirs)
    assert here.of([*second, *first]) == theirs


def test_members_that_are_known_are_numbered_without_asking_anybody():
    asked = Asked(Etcd())
    roster = roster_of(asked)
    members = [Member(1, "a"), Member(2, "b")]
    first = roster.of(members)
    asked.etcd = None  # whoever asks it fails

    assert roster.of(members) == first == {1: 0, 2: 1}


@pytest.mark.parametrize(
    "trouble",
    [
        NobodyCan("no leader"),
        NoAnswer("closed"),
        EtcdError("etcdserver: permission denied"),
    ],
)
def test_members_have_the_numbers_that_they_would_get_while_none_can_be_kept(trouble):
    asked = Asked(Etcd(), trouble=trouble)
    roster = roster_of(asked)

    assert roster.of([Member(7, "b"), Member(9, "a")]) == {9: 0, 7: 1}
    assert asked.etcd.value is None

    asked.trouble = None
    found = roster.of([Member(8, "B"), Member(7, "b"), Member(9, "a")])
    assert found == {8: 0, 9: 1, 7: 2}


@pytest.mark.parametrize("value", [b"", b"no JSON", b"[1]", b'{"members":{"a":"b"}}'])
def test_something_else_under_the_key_is_neither_overwritten_nor_the_end(value):
    etcd = Etcd()
    etcd.put(value)
    roster = roster_of(Asked(etcd))

    assert roster.of([Member(1, "a")]) == {1: 0}
    with pytest.raises(NobodyCan, match="kv/nodes"):
        roster.change(lambda numbers: joining(numbers, 10))
    assert etcd.value == value


def test_change_is_given_up_when_others_are_faster_every_time():
    etcd = Etcd()
    asked = Asked(etcd, between=lambda: etcd.put(b"{}"))
    roster = roster_of(asked)

    with pytest.raises(NobodyCan, match="in the same moment"):
        roster.change(lambda numbers: joining(numbers, 10))

    assert asked.changes == TRIES


def test_change_that_changes_nothing_is_not_written():
    asked = Asked(Etcd())

    roster_of(asked).change(lambda numbers: numbers)

    assert asked.changes == 0


def test_numbers_that_another_service_changed_are_seen_after_a_refresh():
    etcd = Etcd()
    here, other = roster_of(Asked(etcd)), roster_of(Asked(etcd))
    here.of([Member(1, "a")])
    other.change(lambda numbers: joining(numbers, 11))

    here.refresh()

    assert here.numbers == Numbers({name_of(1): 0}, 1, (name_of(11),))
