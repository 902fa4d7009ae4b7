"""A simulated disk by itself, and what those who wait for its commits were told."""

from models import Record
from simulation.kernel import Kernel
from simulation.storage import SimulatedStorage
from tests.simulation.small import noted, pass_time

LATER = 1_000_000


class Disk:
    """A storage, and what those who wait for its commits were told."""

    def __init__(self, seed: int = 1, flush: tuple[int, int] = (100, 1_500)) -> None:
        self.kernel = Kernel()
        self.storage = SimulatedStorage(self.kernel, 0, seed, flush)
        self.told: dict[str, list] = {}

    def put(self, name: str, *records: Record) -> None:
        self._note(name, self.storage.put_many(records))

    def purge(self, name: str, *records: Record) -> None:
        self._note(name, self.storage.purge({r.key: r.version for r in records}))

    def save(self, name: str, epoch: int, state: bytes) -> None:
        self._note(name, self.storage.save_state(epoch, state))

    def settle(self) -> None:
        pass_time(self.kernel, LATER)

    def _note(self, name: str, staged) -> None:
        self.told[name] = []
        staged.then(noted(self.told[name]))
