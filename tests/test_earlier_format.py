"""Files that an earlier version wrote: read, and from then on like any other.

`earlier/` has what a store of format 2 left, one closed in good order and one killed, and
a backup of it.
"""

import tarfile
from pathlib import Path

import apsw
import pytest

from models import Unavailable
from storage import file as storage_file
from tests.damaged_store import (
    DELETED,
    KEYS,
    Cluster,
    check_healed,
    store_in,
)

EARLIER = Path(__file__).with_name("earlier")
ENDED: dict[str, object] = {
    key: [number, "v" * number] for number, key in enumerate(KEYS)
}
ENDED |= {DELETED: None, KEYS[0]: "again"}
KILLED = {**ENDED, KEYS[1]: "after the start", KEYS[2]: None}


@pytest.fixture(params=["ended", "killed"])
def earlier(request, tmp_path) -> Cluster:
    with tarfile.open(EARLIER / f"{request.param}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return Cluster(tmp_path / "data", KILLED if request.param == "killed" else ENDED)


def format_of(file: Path) -> int:
    database = apsw.Connection(str(file))
    [(found,)] = database.execute("select value from meta where name = 'format'")
    database.close()
    return int(found)


def test_files_of_the_earlier_format_lose_nothing_and_are_of_this_one_then(earlier):
    with store_in(earlier.data) as store:
        check_healed(store, earlier)
        assert {event.kind for event in store.events()}.isdisjoint(
            {"damage_found", "data_lost", "storage_replaced"}
        )
        store.write(KEYS[5], "later")
    with store_in(earlier.data) as store:
        check_healed(store, earlier.now(**{KEYS[5]: "later"}))

    files = list(earlier.data.glob("node-*/records-1.db"))
    assert [format_of(file) for file in files] == [storage_file.FORMAT] * 3


def test_log_that_is_missing_is_noticed_from_the_first_start_on(earlier, tmp_path):
    with store_in(earlier.data) as store:
        store.write(KEYS[5], "later")
        killed = tmp_path / "without"
        for node in earlier.data.iterdir():
            (killed / node.name).mkdir(parents=True)
            for path in node.iterdir():
                if not path.name.endswith("-wal"):
                    (killed / node.name / path.name).write_bytes(path.read_bytes())

    with store_in(killed) as store, pytest.raises(Unavailable, match="lost"):
        store.read(KEYS[5])
