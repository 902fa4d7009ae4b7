"""Many operations in one request, one after the other, each with its own result.

No atomicity: an operation that fails neither stops nor undoes the others.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import Raw

from engine import Engine
from models import StoreError, TooLarge, Version
from web.parsing import decode
from web.problems import failure
from web.shapes import BatchAnswer, BatchOperation, BatchRead, BatchRestore, BatchWrite

log = logging.getLogger(__name__)
_operation: msgspec.json.Decoder[BatchOperation] = msgspec.json.Decoder(BatchOperation)
_encode = msgspec.json.Encoder().encode


def run_batch(store: Engine, operations: list[Raw], *, count_max: int) -> BatchAnswer:
    """Do each operation; TooLarge, and nothing done, if there are too many."""
    if len(operations) > count_max:
        raise TooLarge(
            f"a batch has at most {count_max} operations (it has {len(operations)}); "
            "the setting is max_batch"
        )
    return BatchAnswer([_result(store, bytes(text)) for text in operations])


def _result(store: Engine, text: bytes) -> Raw:
    """What the single route would have answered, and its status."""
    try:
        outcome = _encode(_run(store, decode(text, _operation)))
        return Raw(b'{"status":200,' + outcome[1:])
    except Exception as error:
        if not isinstance(error, StoreError):
            log.exception("an operation of a batch failed")
        return Raw(_encode(failure(error).document))


def _run(store: Engine, operation: BatchOperation) -> msgspec.Struct:
    key = operation.key
    if isinstance(operation, BatchWrite):
        return store.write(key, operation.value, ttl=operation.ttl)
    if isinstance(operation, BatchRead):
        return store.read(key)
    if isinstance(operation, BatchRestore):
        version = Version(int(operation.version, 16))
        return store.restore(key, operation.value, version, operation.expires_at_ms)
    return store.delete(key)
