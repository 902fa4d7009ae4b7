"""Checks that need what the store itself says: its versions, and its replicas at the end.

They trust the store's versions, so they come beside linearizability, not in its place.
They find more: that time went backwards where no client happened to look.
"""

from __future__ import annotations

from collections import defaultdict

from checker.facts import (
    Facts,
    Finding,
    answered,
    each_key,
    is_acknowledged,
    lasts_until,
    violated,
    what_it_saw,
    worst,
    written,
)
from checker.history import History, Operation, Replica
from checker.verdict import HOLDS, Verdict, by_key
from checker.wording import in_words, value_in_words


def versions(history: History) -> list[Verdict]:
    """Versions follow real time, and one version has one value.

    If a had ended before b began, the version of a is not above that of b, and below it
    if b is an acknowledged change. Weak operations are left out of the order. A store
    may write the same value again under a new version by itself.
    """
    return each_key("versions", history, _versions)


def _versions(facts: Facts) -> Finding | None:
    return worst([*_two_values(facts.operations), *_backwards(facts.operations)])


def _two_values(operations: list[Operation]) -> list[Finding]:
    values: dict[str, tuple[str | None, Operation]] = {}
    findings = []
    for operation in operations:
        if operation.version is None or operation.outcome == "unknown":
            continue
        value = written(operation)
        if operation.action == "read" or operation.outcome == "failed":
            seen = what_it_saw(operation)
            if seen is None or seen.kind != "is":
                continue
            value = seen.value
        before, other = values.setdefault(operation.version, (value, operation))
        if before != value:
            why = (
                f"version {operation.version} is {value_in_words(before)} and "
                f"{value_in_words(value)}: {in_words(other)}; {in_words(operation)}"
            )
            findings.append(Finding(why, (other, operation)))
    return findings


def _backwards(operations: list[Operation]) -> list[Finding]:
    ordered = [
        each
        for each in operations
        if each.version is not None and not each.level and each.outcome != "unknown"
    ]
    by_end = sorted(ordered, key=answered)
    at = 0
    newest: Operation | None = None
    newest_version = ""
    findings = []
    for later in sorted(ordered, key=lambda each: each.began):
        while answered(by_end[at]) < later.began:
            version = by_end[at].version or ""
            if newest is None or version > newest_version:
                newest, newest_version = by_end[at], version
            at += 1
        mine = later.version or ""
        changes = later.action != "read" and is_acknowledged(later)
        if newest is not None and (
            mine < newest_version or (changes and mine == newest_version)
        ):
            why = (
                f"version {newest_version} came before version {mine}: "
                f"{in_words(newest)}; {in_words(later)}"
            )
            findings.append(Finding(why, (newest, later)))
    return findings


def convergence(history: History) -> list[Verdict]:
    """At the end the replicas of each key hold the same, and something that may be last.

    The same: one value, and one version among those that tell a version. May be last:
    the value of an acknowledged change after which no other acknowledged one began, or
    of any change of unknown outcome or at a weak level; absent, if there is no
    acknowledged change.
    """
    held: dict[str, list[Replica]] = defaultdict(list)
    for replica in history.replicas:
        held[replica.key].append(replica)
    operations = by_key(history.operations)
    verdicts = []
    for key, replicas in sorted(held.items()):
        finding = _diverged(replicas) or _not_last(replicas, operations.get(key, []))
        if finding is not None:
            verdicts.append(violated("convergence", key, finding))
    return verdicts or [Verdict("convergence", HOLDS, details={"keys": len(held)})]


def _diverged(replicas: list[Replica]) -> Finding | None:
    values = {replica.value for replica in replicas}
    told = {replica.version for replica in replicas} - {None}
    if len(values) < 2 and len(told) < 2:
        return None
    holdings = "; ".join(
        f"{replica.node} holds {value_in_words(replica.value)}"
        + (f" at version {replica.version}" if replica.version is not None else "")
        for replica in replicas
    )
    return Finding(f"the replicas differ: {holdings}", ())


def _not_last(replicas: list[Replica], operations: list[Operation]) -> Finding | None:
    changes = [
        each
        for each in operations
        if each.action != "read" and each.outcome != "failed"
    ]
    certain = [each for each in changes if is_acknowledged(each)]
    last_began = max((each.began for each in certain), default=0)
    last = [each for each in changes if lasts_until(each) >= last_began]
    possible = {written(each) for each in last}
    if not certain:
        possible.add(None)
    value = replicas[0].value
    if value in possible:
        return None
    shown = sorted((each for each in last if is_acknowledged(each)), key=answered)[-1:]
    after = f", but last {in_words(shown[0])}" if shown else ", which nobody wrote"
    nodes = ", ".join(replica.node for replica in replicas)
    return Finding(f"{nodes} hold {value_in_words(value)}{after}", tuple(shown))
