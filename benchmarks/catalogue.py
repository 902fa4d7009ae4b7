"""What can be measured, as data. A new measurement is a function and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.beside_etcd import measure_beside_etcd
from benchmarks.figures import Figure
from benchmarks.front import measure_front
from benchmarks.inside import measure_memory, measure_operations, measure_recovery
from benchmarks.observed import measure_observed
from benchmarks.options import Options
from benchmarks.proof import measure_checker, measure_simulation
from benchmarks.service import measure_routes, measure_startup


@dataclass(frozen=True)
class Measurement:
    """One thing to measure: its name for `--only`, what it is, and what does it."""

    name: str
    title: str
    run: Callable[[Options], list[Figure]]


CATALOGUE = (
    Measurement(
        "routes",
        "/read and /write over HTTP, as a share of a bare Flask route's rate",
        measure_routes,
    ),
    Measurement(
        "etcd",
        "durable /write and /read over HTTP, as a share of etcd's rate",
        measure_beside_etcd,
    ),
    Measurement(
        "front",
        "/write and /read over HTTP in front of etcd, as a share of its gateway's rate",
        measure_front,
    ),
    Measurement(
        "observed",
        "what metrics and logs cost /read and /write over HTTP, as a share of the rate",
        measure_observed,
    ),
    Measurement(
        "operations",
        "write and read in process, memory, in processor time",
        measure_operations,
    ),
    Measurement(
        "recovery", "recovering a node that missed 1,000 keys", measure_recovery
    ),
    Measurement("memory", "memory a key at replication factor 2", measure_memory),
    Measurement(
        "simulation",
        "client operations simulated and judged, on one core",
        measure_simulation,
    ),
    Measurement("checker", "histories judged, on one core", measure_checker),
    Measurement("startup", "from start to first answer", measure_startup),
)
