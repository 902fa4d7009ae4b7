"""The JSON of requests and answers, where models.py does not have it already.

Checking a body, answering with one and describing both at /openapi.json all use these
classes, so that the three cannot drift apart.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from limits import TTL_SECONDS_MAX, VERSION_MAX
from models import KEY_BYTES_MAX, Event, NodeInfo

# --- Requests ------------------------------------------------------------------------

# For the description only: what it refuses is said better, and as 413, in limits.py.
KEY_SCHEMA = {
    "description": "1 to 255 bytes of UTF-8, no control characters",
    "minLength": 1,
    "maxLength": KEY_BYTES_MAX,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
}
Key = Annotated[str, Meta(extra_json_schema=KEY_SCHEMA)]
Value = Annotated[Raw, Meta(description="any JSON value; null is a value too")]
Ttl = Annotated[
    float,
    Meta(
        description="seconds after which the key is gone",
        extra_json_schema={"exclusiveMinimum": 0, "maximum": TTL_SECONDS_MAX},
    ),
]
VersionText = Annotated[
    str,
    Meta(
        pattern="^[0-7][0-9a-f]{19}$",
        max_length=20,
        description="as GET /records gave it",
    ),
]


class WriteBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What to write. The value is kept as the JSON text that was sent."""

    key: Key
    value: Value
    ttl: Ttl | None = None


class FailBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How the node fails: `stop` keeps its storage, `wipe` loses that too."""

    mode: str | UnsetType = UNSET  # one of the engine's; absent: the first of them


class RecoverBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Whether the node's copy becomes the truth where no in-sync copy survived."""

    accept_loss: bool = False


class AddBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A node to add: where it will run, if the store does not start it itself."""

    url: str | None = None  # where its peers will reach it, http://host:port


class BatchWrite(
    Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="write",
):
    """As POST /write."""

    key: Key
    value: Value
    ttl: Ttl | None = None


class BatchRead(
    Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="read",
):
    """As GET /read."""

    key: Key


class BatchDelete(
    Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="delete",
):
    """As DELETE /delete."""

    key: Key


class BatchRestore(
    Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="restore",
):
    """Write a key under the version that it had; 412 where one at least as new is held."""

    key: Key
    version: VersionText
    value: Value
    expires_at_ms: Annotated[int, Meta(ge=0, le=VERSION_MAX.ms)] = 0


BatchOperation = BatchWrite | BatchRead | BatchDelete | BatchRestore


def _any_of(*shapes: type) -> dict[str, Any]:
    """JSON Schema: one of these shapes, which the document has under their names."""
    return {"anyOf": [{"$ref": f"#/components/schemas/{s.__name__}"} for s in shapes]}


class BatchBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Operations that are done one after the other. Each stands alone: no atomicity."""

    # Checked one at a time, so that a wrong one spoils its own result only.
    operations: list[
        Annotated[Raw, Meta(extra_json_schema=_any_of(*get_args(BatchOperation)))]
    ]


# --- Answers -------------------------------------------------------------------------

_RESULT = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "integer", "description": "the HTTP status"}},
}


class BatchAnswer(Struct, frozen=True, gc=False):
    """One result for each operation, in order."""

    # `status`, and beside it what the single route would have answered
    results: list[Annotated[Raw, Meta(extra_json_schema=_RESULT)]]


class NodeList(Struct, frozen=True, gc=False):
    """Every node, and how keys are spread over them."""

    nodes: tuple[NodeInfo, ...]
    replication_factor: int
    protocol: str
    placement: str


class EventList(Struct, frozen=True, gc=False):
    """What happened, oldest first."""

    events: list[Event]


class Health(Struct, frozen=True, gc=False):
    """The process answers."""

    status: str
    warning: str | UnsetType = UNSET  # what is amiss although every key is served


class Problem(Struct, frozen=True, gc=False):
    """What went wrong (RFC 9457), with a `code` that a script can test."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    definite: bool  # False: it may have happened all the same
    version: str | UnsetType | None = UNSET  # the current one, where it matters
    deleted: bool | UnsetType = UNSET  # the key was there and is deleted
