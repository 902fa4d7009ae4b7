"""The calculations below the client commands."""

import pytest

from console.completion import candidates
from console.rates import Timings, quantile, rates, timings_of
from console.shell_words import last_words, rest_of_word
from console.state import judged, not_served
from console.words import count_text, nodes_text, one_line, share_text, size_text


def shard(replicas, share=0.5, **changes):
    known = {"replicas": replicas, "in_sync": replicas, "live": replicas, "lost": False}
    return {**known, "readable": True, "writable": True, "share": share, **changes}


def test_reason_that_keys_are_not_served_is_told_apart():
    lost = shard([0, 1], lost=True, readable=False, writable=False, in_sync=[])
    down = shard([1, 2], readable=False, writable=False, live=[])
    few = shard([2, 3], share=0.0001, writable=False)

    told = not_served([lost, down, few, shard([0, 3])])

    assert len(told) == 3
    assert "--accept-loss" in told[0]
    assert "nodes 1 and 2" in told[1]
    assert told[2].startswith("<0.1% of the keys can be read but not written")


def test_store_without_a_leader_is_told_with_how_many_of_its_members_it_takes():
    alone = shard([0, 1, 2], live=[2], readable=False, writable=False)
    soon = shard([0, 1, 2], live=[0, 2], readable=False, writable=False)

    assert not_served([alone, shard([0])], by_majority=True) == [
        "no leader: 1 of 3 members answers, and 2 have to: recover nodes 0 and 1"
    ]
    assert "in a moment" in not_served([soon], by_majority=True)[0]


def test_majority_that_lost_its_data_is_not_told_as_one_that_is_only_down():
    lost = shard([0, 1, 2], live=[2], lost=True, readable=False, writable=False)

    (told,) = not_served([lost], by_majority=True)

    assert "lost their data" in told
    assert "--accept-loss" in told
    assert "have to" not in told


@pytest.mark.parametrize(
    ("status", "problems"), [("up", 0), ("recovering", 2), ("down", 2)]
)
def test_member_that_is_up_may_be_a_little_behind_and_is_well(status, problems):
    node = {"node_id": 0, "status": status, "stale_keys": 3, "waiting_for": []}
    node["raft"] = {"role": "follower"}

    state = judged({"protocol": "raft", "nodes": [node]}, [shard([0], 1.0)])

    assert len(state["problems"]) == problems


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "recovering", "waiting_for": [1]},
        {"status": "down"},
        {"stale_keys": 1},
        {"problem": "unreadable"},
    ],
)
def test_node_that_is_not_well_is_not_called_well(changes):
    node = {"node_id": 0, "status": "up", "stale_keys": 0, "waiting_for": []}

    assert judged({"nodes": [node]}, [shard([0], 1.0)])["well"]
    state = judged({"nodes": [{**node, **changes}]}, [shard([0], 1.0)])
    assert (state["well"], state["ready"], len(state["problems"])) == (False, True, 1)


NAME = "kv_http_request_duration_seconds"


def scrape(count, slow):
    labels = 'method="POST",route="/write",level="",status="200"'
    return f"""# TYPE {NAME} histogram
{NAME}_bucket{{le="0.001",{labels}}} {count - slow}
{NAME}_bucket{{le="0.01",{labels}}} {count}
{NAME}_bucket{{le="+Inf",{labels}}} {count}
{NAME}_sum{{{labels}}} {count * 0.002}
{NAME}_count{{{labels}}} {count}
{NAME}_count{{method="GET",route="/nodes",level="",status="200"}} 77
{NAME}_count{{method="GET",route="/read/{{key}}",level="",status="503"}} 4
"""


def test_rates_are_of_what_happened_between_two_looks():
    before, after = timings_of(scrape(100, 0)), timings_of(scrape(200, 50))

    found = rates(before, after, seconds=2.0)

    assert set(found) == {"write", "read"}
    assert found["write"].per_second == 50
    assert found["write"].mean_ms == pytest.approx(2)
    assert found["write"].p99_ms == pytest.approx(9.82, abs=0.1)
    assert (found["read"].per_second, found["read"].mean_ms) == (0, None)
    assert rates({}, after, 1.0)["read"].failed_per_second == 4


def test_server_that_began_anew_gives_no_negative_rate():
    found = rates(timings_of(scrape(100, 0)), timings_of(scrape(10, 0)), 1.0)

    assert found["write"].per_second == 10


def test_quantile_lies_in_its_bucket_and_beyond_the_last_end_says_the_end():
    assert quantile({0.1: 50, 0.2: 100}, 0.75) == pytest.approx(0.15)
    assert quantile({0.1: 0, float("inf"): 10}, 0.99) == 0.1
    assert quantile({0.1: 0}, 0.5) is None
    assert quantile({}, 0.5) is None
    assert Timings().count == 0


def test_text_of_others_cannot_move_the_cursor_or_begin_a_line():
    assert one_line("a\n b\x1b[2J\u202e") == "a b\\x1b[2J\\u202e"


def test_words_for_a_person():
    assert nodes_text([3]) == "node 3"
    assert nodes_text([1, 2, 3]) == "nodes 1, 2 and 3"
    assert nodes_text(list(range(10))).endswith("7 and 2 more")
    assert [size_text(n) for n in (0, 1023, 1536)] == ["0 B", "1,023 B", "1.5 KiB"]
    assert size_text(5 << 40) == "5.0 TiB"
    assert (count_text(1_234), count_text(None), size_text(None)) == ("1,234", "-", "-")
    assert [share_text(s) for s in (0, 0.00001, 0.5)] == ["0.0%", "<0.1%", "50.0%"]


@pytest.mark.parametrize(
    ("line", "before", "value"),
    [
        ("kv ", [], ""),
        ("kv get us", ["get"], "us"),
        ("kv get a\\ b", ["get"], "a b"),
        ("kv get 'a b", ["get"], "a b"),
        ('kv get "a \\" b', ["get"], 'a " b'),
        ("kv put --text 'a b' ", ["put", "--text", "a b"], ""),
    ],
)
def test_line_is_cut_into_words_as_the_shell_would(line, before, value):
    found, _, last = last_words(line)

    assert (found, last) == (before, value)


@pytest.mark.parametrize(
    ("raw", "candidate", "reply"),
    [
        ("us", "user:1", "user:1"),
        ("user:", "user:12", "12"),
        ("a:b:c", "a:b:cd", "cd"),
        ("a", "a b", "a\\ b"),
        ("a\\ ", "a b", "a\\ b"),
        ("'a", "a b", "a b"),
        ('"a ', 'a "$b', 'a \\"\\$b'),
        ("a:'b", "a:b c", "b c"),
        ("", "😀", "😀"),
        ("", "it's", "it\\'s"),
    ],
)
def test_completed_word_is_what_the_shell_must_put_after_its_last_break(
    raw, candidate, reply
):
    assert rest_of_word(raw, candidate) == reply


def test_commands_options_and_flags_of_serve_are_completed():
    def values(*words):
        return [item.value for item in candidates(words[:-1], words[-1])]

    assert values("st") == ["status"]
    assert {"serve", "simulate", "put"} <= set(values(""))
    assert "--if-absent" in values("put", "--if")
    assert values("serve", "--por") == values("--por") == ["--port"]
    assert values("completion", "z") == ["zsh"]
