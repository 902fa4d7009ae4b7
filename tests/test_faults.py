"""Faults as the mission asks for them: nodes fail, are wiped and recover; nothing lies."""

import itertools
import unittest

from models import InvalidRequest, KeyNotFound, NodeNotFound, Unavailable
from replication import open_manager


def fill(store, count, value="first"):
    keys = [f"key-{n}" for n in range(count)]
    for key in keys:
        store.write(key, [value, key])
    return keys


class Faults(unittest.TestCase):
    """Each test makes the clusters that it needs."""

    def open(self, nodes=3, factor=2, **options):
        store = open_manager(nodes=nodes, replication_factor=factor, **options)
        self.addCleanup(store.close)
        return store

    def test_all_data_are_available_whichever_node_of_three_fails(self):
        for victim in range(3):
            store = self.open()
            keys = fill(store, 10)

            store.fail(victim)

            self.assertEqual(
                [store.read(k).value for k in keys], [["first", k] for k in keys]
            )

    def test_all_data_are_available_whichever_two_of_five_fail_at_factor_three(self):
        for victims in itertools.permutations(range(5), 2):
            store = self.open(5, 3)
            keys = fill(store, 20)

            for victim in victims:
                store.fail(victim)

            self.assertEqual(
                [store.read(k).value for k in keys], [["first", k] for k in keys]
            )

    def test_a_recovered_node_alone_has_what_was_written_and_deleted_meanwhile(self):
        for victim in range(3):
            store = self.open()
            keys = fill(store, 30)
            store.fail(victim)
            for key in keys[:10]:
                store.write(key, ["second", key])
            for key in keys[10:15]:
                store.delete(key)

            node = store.recover(victim)
            for other in {0, 1, 2} - {victim}:
                store.fail(other)

            mine = [k for k in keys if victim in store.locate(k).replica_set]
            self.assertEqual(node.status, "up")
            self.assertEqual(node.recovery.copied, len(set(mine) & set(keys[:15])))
            self.assertEqual(node.recovery.removed, len(set(mine) & set(keys[10:15])))
            for key in keys:
                if key not in mine:
                    self.assertRaises(Unavailable, store.read, key)
                elif key in keys[10:15]:
                    self.assertRaises(KeyNotFound, store.read, key)
                else:
                    value = "second" if key in keys[:10] else "first"
                    self.assertEqual(store.read(key).value, [value, key])

    def test_every_replica_down_is_unavailable_and_not_a_missing_key(self):
        store = self.open()
        fill(store, 5)
        for node in range(3):
            store.fail(node)

        for call in (
            lambda: store.read("key-1"),
            lambda: store.read("never-written"),
            lambda: store.write("key-1", 2),
            lambda: store.delete("key-1"),
            lambda: store.keys(),
            lambda: store.read("key-1", consistency="one"),
        ):
            with self.assertRaises(Unavailable) as caught:
                call()
            self.assertTrue(caught.exception.definite)
        self.assertFalse(store.is_ready())

        for node in range(3):
            store.recover(node)
        self.assertEqual(store.read("key-1").value, ["first", "key-1"])
        self.assertTrue(store.is_ready())

    def test_a_node_that_missed_nothing_is_back_at_once_and_copies_nothing(self):
        store = self.open()
        fill(store, 50)

        store.fail(1)
        node = store.recover(1)

        self.assertEqual(
            (node.status, node.recovery.copied, node.stale_keys), ("up", 0, 0)
        )

    def test_a_wiped_node_is_rebuilt_from_its_peers(self):
        store = self.open()
        keys = fill(store, 30)
        held = store.node(1).keys

        self.assertEqual(store.fail(1, "wipe").keys, 0)
        node = store.recover(1)
        store.fail(0)
        store.fail(2)

        self.assertEqual((node.keys, node.recovery.copied), (held, held))
        for key in keys:
            if 1 in store.locate(key).replica_set:
                self.assertEqual(store.read(key).value, ["first", key])

    def test_a_stale_node_says_on_whom_it_waits_and_catches_up_when_they_return(self):
        store = self.open(2, 2)
        keys = fill(store, 10)
        store.fail(0)
        for key in keys:
            store.write(key, ["second", key])
        store.fail(1)

        stale = store.recover(0)
        with self.assertRaises(Unavailable):
            store.read("key-1")
        store.recover(1)

        self.assertEqual((stale.status, stale.waiting_for), ("recovering", (1,)))
        self.assertEqual(stale.stale_keys, 10)
        self.assertEqual(store.node(0).status, "up")
        store.fail(1)
        self.assertEqual(store.read("key-1").value, ["second", "key-1"])

    def test_the_last_in_sync_copy_lost_is_unavailable_until_the_loss_is_accepted(self):
        store = self.open(2, 2)
        fill(store, 10, "old")
        store.fail(0)
        fill(store, 5, "new")

        store.fail(1, "wipe")
        for node in (0, 1):
            self.assertEqual(store.recover(node).status, "recovering")
        with self.assertRaisesRegex(Unavailable, "accept_loss"):
            store.read("key-1")
        kinds = [event.kind for event in store.events()]

        store.recover(0, accept_loss=True)

        self.assertIn("data_lost", kinds)
        self.assertEqual({n.status for n in store.nodes()}, {"up"})
        self.assertEqual(store.read("key-1").value, ["old", "key-1"])
        store.write("key-1", "newer")
        store.fail(0)
        self.assertEqual(store.read("key-1").value, "newer")

    def test_a_tombstone_is_kept_while_a_replica_that_lacks_it_is_down(self):
        store = self.open(2, 2, tombstone_grace_seconds=0)
        fill(store, 3)
        store.fail(0)
        store.delete("key-1")

        store.maintain()
        kept = store.locate("key-1").replicas[
            0 if store.locate("key-1").replica_set[0] else 1
        ]
        store.recover(0)
        store.fail(1)
        with self.assertRaises(KeyNotFound) as caught:
            store.read("key-1")
        store.recover(1)
        store.maintain()

        self.assertTrue(kept.deleted)
        self.assertTrue(caught.exception.extra["deleted"])
        self.assertEqual(
            [r.version for r in store.locate("key-1").replicas], [None, None]
        )
        self.assertRaises(KeyNotFound, store.read, "key-1")

    def test_repeating_a_failure_or_a_recovery_changes_nothing(self):
        store = self.open()
        fill(store, 5)

        first, second = store.fail(1), store.fail(1)
        events = len(store.events())
        store.recover(1)
        again = store.recover(1)

        self.assertEqual((first, first.status), (second, "down"))
        self.assertEqual(events, 1)
        self.assertEqual((again.status, again.recovery.copied), ("up", 0))

    def test_unknown_nodes_and_modes_are_refused_by_name(self):
        store = self.open()

        with self.assertRaisesRegex(NodeNotFound, "node_id=7"):
            store.fail(7)
        with self.assertRaisesRegex(NodeNotFound, "node_id=-1"):
            store.recover(-1)
        with self.assertRaisesRegex(InvalidRequest, "stop, wipe"):
            store.fail(1, "explode")
        self.assertEqual({n.status for n in store.nodes()}, {"up"})

    def test_fewer_in_sync_replicas_than_demanded_refuse_a_write_before_it_is_sent(
        self,
    ):
        store = self.open(2, 2, min_in_sync=2)
        store.write("key", 1)
        store.fail(0)

        with self.assertRaisesRegex(Unavailable, "min_in_sync=2"):
            store.write("key", 2)

        self.assertEqual(store.read("key").value, 1)
        self.assertEqual(store.recover(0).recovery.copied, 0)
        store.write("key", 2)


if __name__ == "__main__":
    unittest.main()
