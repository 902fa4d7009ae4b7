"""Group commit: who shares a commit with whom, and what nobody may see of it early."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from db import SqliteStorage
from models import Staged, Version
from tests.storage_case import (
    copy_files,
    file_of,
    finish,
    held,
    open_folder,
    put,
    record,
)


def in_threads(*work: Callable[[], Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"


class Commits:
    """Counts the commits of a storage, and holds up the first until it is let go."""

    def __init__(self, storage: SqliteStorage, *, hold_first: bool = False) -> None:
        self.count = 0
        self.began = threading.Event()
        self.go_on = threading.Event()
        if not hold_first:
            self.go_on.set()
        file_of(storage)._database.set_commit_hook(self._commit)

    def _commit(self) -> bool:
        self.count += 1
        self.began.set()
        assert self.go_on.wait(timeout=30), "nobody let the first commit go on"
        return False


def test_writers_that_come_during_a_commit_do_not_pay_for_one_each(tmp_path):
    storage = open_folder(tmp_path / "live")
    commits = Commits(storage, hold_first=True)
    first = in_threads(lambda: put(storage, record("first", 1)))
    assert commits.began.wait(timeout=30)

    staged = [storage.put_many([record(f"k{n}", 1)]) for n in range(20)]
    staged.append(storage.purge({"never": record("never", 1).version}))
    staged.append(storage.save_state(3, b"state"))
    before = held(storage)  # the first commit has not ended, so nothing shows
    others = in_threads(*(one.result for one in staged if isinstance(one, Staged)))
    commits.go_on.set()
    join(first + others)

    assert before == {}
    assert (commits.count, len(others)) == (2, 22)
    assert set(held(storage)) == {"first", *(f"k{n}" for n in range(20))}
    killed = open_folder(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert held(killed) == held(storage)
    assert killed.load_state() == (3, b"state")
    killed.close()
    storage.close()


def test_writers_side_by_side_lose_nothing_and_commit_no_more_than_they_are(tmp_path):
    storage = open_folder(tmp_path / "live")
    commits = Commits(storage)
    answers: dict[int, Version | None] = {}

    def write(writer: int) -> None:
        for turn in range(25):
            number = turn * 8 + writer + 1  # higher at every turn, and all different
            one = record("shared", number, b"%d" % number)
            answers[number] = put(storage, one, record(f"own-{writer}-{turn}", 1))

    join(in_threads(*(partial(write, writer) for writer in range(8))))

    assert len(answers) == 200
    assert answers[200] is None
    assert all(v is None or v.ms > number for number, v in answers.items())
    assert 1 <= commits.count <= 200
    killed = open_folder(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert held(killed) == held(storage)
    assert len(held(killed)) == 201
    assert killed.get("shared") == record("shared", 200, b"200")
    killed.close()
    storage.close()


def test_one_batch_does_not_keep_an_older_record_or_purge_a_newer_one(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1, None), record("gone", 1, None))
    commits = Commits(storage)

    older = storage.put_many([record("k", 5)])
    newest = storage.put_many([record("k", 9)])
    purge = storage.purge({key: record(key, 1).version for key in ("k", "gone")})
    answers = [finish(one) for one in (purge, older, newest)]

    assert answers == [None, record("k", 9).version, None]
    assert held(storage) == {"k": record("k", 9)}
    assert commits.count == 1
    storage.close()
    again = open_folder(tmp_path)
    assert held(again) == {"k": record("k", 9)}
    again.close()


def test_commit_that_was_begun_does_not_need_anybody_who_waits(tmp_path):
    storage = open_folder(tmp_path / "live")
    commits = Commits(storage)

    staged = storage.put_many([record("k", 1)])
    assert isinstance(staged, Staged)
    staged.begin()
    staged.begin()  # a second time it is under way
    assert commits.began.wait(timeout=30)
    storage.committer.close()
    count = commits.count
    storage.close()

    assert (held(storage), count) == ({"k": record("k", 1)}, 1)
    killed = open_folder(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert held(killed) == held(storage)
    killed.close()


def test_storage_that_is_closed_leaves_no_thread_and_nothing_begun_behind(tmp_path):
    before = threading.active_count()
    for number in range(5):
        storage = open_folder(tmp_path)
        staged = storage.put_many([record(f"k{number}", 1)])
        assert isinstance(staged, Staged)
        staged.begin()
        storage.close()
        assert staged.result() is None

    again = open_folder(tmp_path)
    assert set(held(again)) == {f"k{number}" for number in range(5)}
    again.close()
    assert threading.active_count() == before
