"""Replication as the mission asks for it: where keys go, what survives, what is refused."""

import itertools
import shutil
import tempfile
import unittest
from pathlib import Path

from models import (
    Condition,
    InvalidRequest,
    KeyNotFound,
    TooLarge,
    Unavailable,
    VersionMismatch,
)
from replication import SettingsMismatch, open_manager

PAIRS = {f"key-{n}": {"number": n} for n in range(20)}


class Replication(unittest.TestCase):
    """A store of three nodes, two replicas a key."""

    def setUp(self):
        self.store = open_manager(nodes=3, replication_factor=2)
        self.addCleanup(self.store.close)

    def test_a_key_is_on_as_many_nodes_as_the_replication_factor(self):
        outcome = self.store.write("greeting", "hello")

        location = self.store.locate("greeting")

        self.assertEqual(len(outcome.replicas), 2)
        self.assertEqual(set(location.replica_set), set(outcome.replicas))
        self.assertEqual({r.version for r in location.replicas}, {outcome.version})
        self.assertEqual(sum(node.keys for node in self.store.nodes()), 2)

    def test_every_value_that_json_can_say_comes_back_as_it_was(self):
        values: list[object] = [
            None,
            True,
            0,
            -1.5,
            10**30,
            "",
            "é\U0001f600",
            [],
            {},
            [1, [None]],
            {"a": {}},
        ]
        for number, value in enumerate(values):
            self.store.write(f"value-{number}", value)

        for number, value in enumerate(values):
            self.assertEqual(self.store.read(f"value-{number}").value, value)

    def test_null_is_a_value_and_not_an_absent_key(self):
        self.store.write("nothing", None)

        self.assertIsNone(self.store.read("nothing").value)
        with self.assertRaises(KeyNotFound):
            self.store.read("absent")

    def test_a_deleted_key_is_told_apart_from_one_that_never_was(self):
        self.store.write("gone", 1)
        deleted = self.store.delete("gone")

        with self.assertRaises(KeyNotFound) as caught:
            self.store.read("gone")

        self.assertEqual(
            caught.exception.extra, {"version": deleted.version, "deleted": True}
        )
        with self.assertRaises(KeyNotFound):
            self.store.delete("gone")

    def test_versions_grow_with_every_write_also_over_delete_and_create(self):
        versions = [self.store.write("key", n).version for n in range(3)]
        versions.append(self.store.delete("key").version)
        versions.append(self.store.write("key", 4).version)

        self.assertEqual(versions, sorted(set(versions)))

    def test_a_conditional_write_goes_ahead_only_on_the_expected_version(self):
        first = self.store.write("key", 1)
        second = self.store.write(
            "key", 2, condition=Condition(if_versions=(first.version,))
        )

        with self.assertRaises(VersionMismatch) as caught:
            self.store.write(
                "key", 3, condition=Condition(if_versions=(first.version,))
            )

        self.assertEqual(caught.exception.extra["version"], second.version)
        self.assertEqual(self.store.read("key").value, 2)

    def test_a_conditional_delete_and_a_create_only_write_keep_their_condition(self):
        first = self.store.write("key", 1, condition=Condition(if_absent=True))
        self.store.write("key", 2)

        with self.assertRaises(VersionMismatch):
            self.store.write("key", 3, condition=Condition(if_absent=True))
        with self.assertRaises(VersionMismatch):
            self.store.delete("key", condition=Condition(if_versions=(first.version,)))

        self.assertEqual(self.store.read("key").value, 2)

    def test_bad_keys_values_and_levels_are_refused_and_nothing_changes(self):
        self.store.write("key", 1)
        bad = [
            lambda: self.store.write("", 1),
            lambda: self.store.write("a\nb", 1),
            lambda: self.store.write("\ud800", 1),
            lambda: self.store.write("key", float("nan")),
            lambda: self.store.write("key", {1, 2}),
            lambda: self.store.write("key", "\ud800"),
            lambda: self.store.write("key", 2, ttl=0),
            lambda: self.store.write("key", 2, consistency="quorum"),
            lambda: self.store.read("key", consistency="all"),
        ]
        for call in bad:
            with self.assertRaises(InvalidRequest):
                call()
        for call in (
            lambda: self.store.write("é" * 128, 1),
            lambda: self.store.write("key", "x" * (1 << 20)),
        ):
            with self.assertRaises(TooLarge):
                call()

        self.assertEqual(self.store.read("key").value, 1)
        self.assertEqual([entry.key for entry in self.store.keys().keys], ["key"])

    def test_keys_are_listed_in_order_in_pages_without_deleted_ones(self):
        for key, value in PAIRS.items():
            self.store.write(key, value)
        self.store.delete("key-7")

        pages, after = [], ""
        while True:
            page = self.store.keys(prefix="key-1", after=after, limit=4)
            pages.append([entry.key for entry in page.keys])
            if page.next is None:
                break
            after = page.next

        expected = sorted(k for k in PAIRS if k.startswith("key-1") and k != "key-7")
        self.assertEqual(list(itertools.chain(*pages)), expected)
        self.assertTrue(all(len(page) == 4 for page in pages[:-1]))

    def test_a_write_at_level_one_reaches_every_replica_soon(self):
        outcome = self.store.write("key", 1, consistency="one")
        self.assertEqual(len(outcome.replicas), 1)
        self.assertEqual(len(outcome.missed), 1)

        self.store.drain()

        self.assertEqual(len({r.version for r in self.store.locate("key").replicas}), 1)
        self.assertEqual(self.store.read("key").value, 1)

    def test_full_placement_puts_every_key_on_every_node(self):
        with open_manager(nodes=3, replication_factor=2, placement="full") as store:
            store.write("key", 1)
            store.fail(0)
            store.fail(1)

            self.assertEqual(store.read("key").value, 1)


class Restart(unittest.TestCase):
    """A store on files, closed and opened again."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data_dir = Path(folder.name) / "data"
        self.options = {"storage": "sqlite", "data_dir": self.data_dir}

    def open(self, **options):
        return open_manager(**{**self.options, **options})

    def test_what_was_written_is_there_after_a_restart_and_versions_go_on_growing(self):
        with self.open() as store:
            before = store.write("key", {"a": [1]})
            store.write("gone", 1)
            store.delete("gone")

        with self.open() as store:
            self.assertEqual(store.read("key").value, {"a": [1]})
            with self.assertRaises(KeyNotFound):
                store.read("gone")
            self.assertGreater(store.write("key", 2).version, before.version)

    def test_a_failed_node_is_still_failed_after_a_restart(self):
        with self.open() as store:
            store.write("key", 1)
            store.fail(0)
            store.fail(1)
            store.fail(2)

        with self.open() as store:
            self.assertEqual({n.status for n in store.nodes()}, {"down"})
            with self.assertRaises(Unavailable):
                store.read("key")
            for node in range(3):
                store.recover(node)
            self.assertEqual(store.read("key").value, 1)

    def test_a_stale_node_does_not_serve_what_it_missed_after_a_restart(self):
        with self.open(nodes=2) as store:
            for n in range(10):
                store.write(f"key-{n}", "old")
            store.fail(0)
            for n in range(10):
                store.write(f"key-{n}", "new")
            store.fail(1)

        with self.open(nodes=2) as store:
            node = store.recover(0)
            self.assertEqual((node.status, node.waiting_for), ("recovering", (1,)))
            self.assertEqual(node.stale_keys, 10)
            with self.assertRaises(Unavailable):
                store.read("key-1")
            store.recover(1)
            self.assertEqual(store.node(0).status, "up")
            store.fail(1)
            self.assertEqual({store.read(f"key-{n}").value for n in range(10)}, {"new"})

    def test_another_layout_is_refused_with_what_to_do(self):
        with self.open() as store:
            store.write("key", 1)

        with self.assertRaisesRegex(
            SettingsMismatch, "--nodes 3 --replication-factor 2.*use those"
        ):
            self.open(nodes=5)
        folders = sorted(folder.name for folder in self.data_dir.iterdir())
        self.assertEqual(folders, ["node-0", "node-1", "node-2"])

        with self.open() as store:
            self.assertEqual(store.read("key").value, 1)

    def test_a_node_whose_folder_is_gone_is_rebuilt_and_never_answers_404_for_it(self):
        with self.open() as store:
            for key, value in PAIRS.items():
                store.write(key, value)
        shutil.rmtree(self.data_dir / "node-1")

        with self.open() as store:
            self.assertEqual({n.status for n in store.nodes()}, {"up"})
            for other in (0, 2):
                store.fail(other)
            held = [r.key for r in map(store.locate, PAIRS) if 1 in r.replica_set]
            self.assertGreater(len(held), 5)
            for key in held:
                self.assertEqual(store.read(key).value, PAIRS[key])


if __name__ == "__main__":
    unittest.main()
