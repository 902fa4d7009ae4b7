"""Who holds what must be spread evenly, move little, and be the same for ever.

The golden values are part of the format of the data on disk: a store whose placement
gave others would look for its keys at the wrong nodes.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.placement import (
    PARTITION_BITS,
    PARTITION_COUNT,
    PLACEMENTS,
    VIRTUAL_NODES,
    full,
    partition_of,
    ring,
)
from models import TOKEN_BITS, key_token
from storage import content

ROOT = Path(__file__).resolve().parent.parent
TOKENS = {
    "": "2d06800538d394c2",  # the reference implementation's XXH3 of nothing
    "a": "e6c632b61e964e1f",
    "user:42": "9fc1e605fa7174aa",
    "greeting": "1fc809e0902f8741",
    "ключ": "9a137c08c1e55ede",
    "🗝": "b86bdf86a8a5036b",
    "k" * 255: "4ba1b33e03e3ab0f",
}
GOLDEN = """\
ring 3 2 eb774f02ac2fe6c6
ring 10 3 5f974457c5db2803
full 3 2 28f7841808df5793
"""
PRINT_GOLDEN = """
import hashlib
from cluster.placement import PLACEMENTS
for name, nodes, factor in (("ring", 3, 2), ("ring", 10, 3), ("full", 3, 2)):
    assignment = PLACEMENTS[name](range(nodes), factor)
    digest = hashlib.sha256(repr(assignment).encode()).hexdigest()[:16]
    print(name, nodes, factor, digest)
"""

nodes_and_factors = st.integers(1, 12).flatmap(
    lambda nodes: st.tuples(st.just(nodes), st.integers(1, nodes))
)


@settings(max_examples=40)
@given(nodes_and_factors)
def test_no_partition_has_fewer_replicas_than_asked_or_one_node_twice(shape):
    nodes, factor = shape

    assignment = ring(range(nodes), factor)

    assert len(assignment) == PARTITION_COUNT
    assert {len(set(replicas)) for replicas in assignment} == {factor}
    assert {len(replicas) for replicas in assignment} == {factor}
    assert {node for replicas in assignment for node in replicas} <= set(range(nodes))


def test_factor_beyond_the_nodes_gives_every_node_once_and_no_endless_walk():
    assignment = ring(range(3), 5)

    assert {tuple(sorted(replicas)) for replicas in assignment} == {(0, 1, 2)}


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_order_in_which_nodes_are_named_does_not_move_keys(order):
    assert ring(order, 3) == ring(range(6), 3)


def test_ring_is_what_a_walk_over_all_points_finds():
    points = sorted(
        (key_token(f"node-{node}/{index}"), node)
        for node in range(4)
        for index in range(VIRTUAL_NODES)
    )

    def walk(start: int) -> tuple[int, ...]:
        clockwise = [node for token, node in points if token > start]
        around = clockwise + [node for _, node in points]
        return tuple(dict.fromkeys(around))[:3]  # distinct, in the order met

    sample = [0, 1, 2, 1_000, 2_047, 2_048, 4_094, 4_095]
    assignment = ring(range(4), 3)

    width = 1 << (TOKEN_BITS - PARTITION_BITS)
    assert [assignment[p] for p in sample] == [walk(p * width) for p in sample]


@pytest.mark.parametrize("factor", [2, 3])
def test_added_node_moves_little_and_only_to_itself(factor):
    before = ring(range(5), factor)
    for new in range(5, 20):
        after = ring(range(new + 1), factor)
        gained = [
            set(now) - set(was) for was, now in zip(before, after, strict=True)
        ]  # per partition, who has to copy it
        moved, ideal = sum(map(len, gained)), PARTITION_COUNT * factor / (new + 1)

        assert set().union(*gained) == {new}
        assert 0.7 * ideal <= moved <= 1.3 * ideal, (new, moved, ideal)
        before = after


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_no_node_of_ten_holds_much_more_or_less_than_its_share(factor):
    assignment = ring(range(10), factor)

    counts = Counter(node for replicas in assignment for node in replicas)
    share = PARTITION_COUNT * factor / 10

    assert max(counts.values()) <= 1.25 * share, counts
    assert min(counts.values()) >= share / 1.25, counts
    assert len(counts) == 10


def test_first_replicas_do_not_pile_up_on_one_node():
    firsts = Counter(replicas[0] for replicas in ring(range(10), 3))

    assert max(firsts.values()) <= 1.25 * PARTITION_COUNT / 10


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_full_leaves_no_node_without_any_key(factor):
    assert full([2, 0, 1], factor) == ((0, 1, 2),) * PARTITION_COUNT


@given(st.integers(0, 2**64 - 1))
def test_token_is_never_in_a_partition_that_does_not_hold_it(token):
    width = 2**64 // PARTITION_COUNT

    partition = partition_of(token)

    assert 0 <= partition < PARTITION_COUNT
    assert partition * width <= token < (partition + 1) * width


def test_digests_are_kept_of_the_very_partitions_that_are_placed():
    assert content.PARTITION_COUNT == PARTITION_COUNT
    assert content.PARTITION_SHIFT == TOKEN_BITS - PARTITION_BITS


@pytest.mark.parametrize(("key", "token"), TOKENS.items())
def test_key_does_not_move_on_the_ring_from_one_release_to_the_next(key, token):
    assert f"{key_token(key):016x}" == token


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_another_process_does_not_place_keys_elsewhere(hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}

    printed = subprocess.run(
        [sys.executable, "-c", PRINT_GOLDEN],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout == GOLDEN
    assert set(PLACEMENTS) == {"ring", "full"}  # a new one gets its line above
