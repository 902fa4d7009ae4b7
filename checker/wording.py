"""Operations in words, for the sentence of a verdict."""

from __future__ import annotations

from collections.abc import Iterable

from checker.history import Operation, State

TEXT_MAX = 40  # characters of a value


def value_in_words(value: str | None) -> str:
    """A value as a sentence shows it."""
    if value is None:
        return "nothing"
    return value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 3] + "..."


def state_in_words(state: State) -> str:
    """A state as in "if it was ..."."""
    if state.value is None:
        return "absent" if state.kind == "is" else "present"
    value = value_in_words(state.value)
    return value if state.kind == "is" else f"not {value}"


def in_words(operation: Operation) -> str:
    """What a client did and was told, such as "c1 wrote 5 (10 to 20)"."""
    return f"{operation.client} {deed_in_words(operation)} {_interval(operation)}"


def all_in_words(operations: Iterable[Operation]) -> str:
    """Several operations in the order in which they began."""
    ordered = sorted(operations, key=lambda operation: operation.began)
    return "; ".join(in_words(operation) for operation in ordered)


def deed_in_words(operation: Operation) -> str:
    """The same without who and when, such as "wrote 5 if absent"."""
    demand = ""
    if operation.condition is not None:
        demand = f" if {state_in_words(operation.condition)}"
    if operation.action == "read":
        done, tried = f"read {value_in_words(operation.value)}", "read"
    elif operation.action == "delete":
        done, tried = f"deleted{demand}", f"delete{demand}"
    else:
        value = value_in_words(operation.value)
        done, tried = f"wrote {value}{demand}", f"write {value}{demand}"
    if operation.outcome == "ok":
        return done
    if operation.outcome == "failed":
        told = (
            ""
            if operation.saw is None
            else f", told it is {state_in_words(operation.saw)}"
        )
        if operation.action == "read" and operation.saw is not None:
            return f"saw that it is {state_in_words(operation.saw)}"
        return f"failed to {tried}{told}"
    return f"perhaps {done}"


def _interval(operation: Operation) -> str:
    if operation.ended is None:
        return f"(from {operation.began})"
    return f"({operation.began} to {operation.ended})"
