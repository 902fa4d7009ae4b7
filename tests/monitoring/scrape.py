"""What a scrape of /metrics shows, read by the official parsers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "kv_http_request_duration_seconds"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Sample = tuple[str, tuple[tuple[str, str], ...]]


def families(text: str) -> list[Metric]:
    """The metrics of a page in the text format."""
    return list(text_string_to_metric_families(text))


def open_families(text: str) -> list[Metric]:
    """The metrics of a page in the OpenMetrics format, which is strict."""
    parse: Any = openmetrics.text_string_to_metric_families
    return list(parse(text))


def samples(text: str) -> dict[Sample, float]:
    """Every sample of a page by its name and labels."""
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in families(text)
        for each in family.samples
    }


def label_values(found: Iterable[Sample]) -> set[str]:
    """Every value of a label on a page."""
    return {value for _, labels in found for _, value in labels}


def requests(text: str, **chosen: str) -> dict[tuple[str, str, str, str], int]:
    """How many requests were counted: by method, route, level and status."""
    found: dict[tuple[str, str, str, str], int] = {}
    for (name, pairs), value in samples(text).items():
        labels: Mapping[str, str] = dict(pairs)
        if name == f"{REQUESTS}_count" and chosen.items() <= labels.items():
            names = ("method", "route", "level", "status")
            method, route, level, status = (labels[each] for each in names)
            found[method, route, level, status] = int(value)
    return found
