"""The settings, checked as a whole when built.

`Settings(...)` is what the rest of the program sees: frozen, complete, no file or
environment read. flags.py makes one from the command line.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

YEAR_SECONDS = 365 * 86_400
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MEMBER_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})/?"
)
_HOST_NAME = re.compile(r"\.?(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?")
# What a header can carry (RFC 9110, 5.5): a token of other characters nobody could give.
_TOKEN = "^[!-~]([ -~]*[!-~])?$"
WILDCARDS = frozenset(("0.0.0.0", "::", ""))  # every address of the machine
SECRET = frozenset(("api_token", "read_token", "etcd_password"))
# What is of one engine only, and a mistake with another.
OF_ENGINE = {
    "embedded": (
        "nodes replication_factor protocol placement min_in_sync storage durability "
        "maintenance_seconds scrub_rows max_clock_jump_seconds"
    ).split(),
    "etcd": (
        "etcd_endpoints local_members etcd_prefix etcd_ca etcd_cert etcd_key etcd_user "
        "etcd_password etcd_seconds"
    ).split(),
}
CONNECTIONS_MIN = 16
BODY_OVERHEAD_BYTES = 8 << 10  # of a body over its value: key, field names, blanks


def is_member_url(url: str) -> bool:
    """True for the URL of a member of etcd: scheme, host and port, and no more."""
    found = _MEMBER_URL.fullmatch(url)
    return found is not None and 1 <= int(found[1]) <= 65_535


def is_address(text: str) -> bool:
    """True for an IP address, written out: 127.1 and 0x7f.0.0.1 are names."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class CannotOpen(Exception):
    """What the settings ask for cannot be had: one line that says why and what to do."""


class Settings(BaseModel):
    """Everything that can be set, with its default, its unit and its range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(5000, ge=0, le=65_535, description="port; 0 picks a free one")
    nodes: int = Field(3, ge=1, le=100, description="number of replica nodes")
    replication_factor: int = Field(2, ge=1, le=100, description="replicas of a key")
    protocol: Literal["primary-backup"] = Field(
        "primary-backup", description="replication protocol"
    )
    placement: Literal["ring", "full"] = Field(
        "ring", description="which nodes hold a key: ring, or full (every node)"
    )
    consistency: Literal["linearizable", "one"] = Field(
        "linearizable", description="consistency level of a request that names none"
    )
    min_in_sync: int = Field(
        1, ge=1, le=100, description="in-sync replicas that must take a write"
    )
    storage: Literal["memory", "sqlite"] = Field(
        "sqlite", description="memory (gone at exit) or sqlite (files under data_dir)"
    )
    data_dir: Path = Field(Path("data"), description="folder of the nodes' files")
    durability: Literal["fsync", "os"] = Field(
        "fsync", description="flush each commit (fsync), or leave it to the system (os)"
    )
    tombstone_grace_seconds: float = Field(
        600.0,
        ge=0,
        le=100 * YEAR_SECONDS,
        description="how long a delete is remembered at least, seconds",
    )
    maintenance_seconds: float = Field(
        30.0,
        gt=0,
        le=YEAR_SECONDS,
        description="pause between rounds of background upkeep, seconds",
    )
    max_clock_jump_seconds: float = Field(
        60.0,
        ge=0,
        le=10 * YEAR_SECONDS,
        description="how far ahead of the store's time a restored version may be, seconds",
    )
    scrub_rows: int = Field(
        1_000,
        ge=0,
        le=1_000_000,
        description="rows of the nodes' files checked a second, in all (0: none)",
    )
    max_key_bytes: int = Field(
        255, ge=1, le=255, description="largest key, bytes of UTF-8"
    )
    max_value_bytes: int = Field(
        1 << 20, ge=1, le=1 << 26, description="largest value, bytes as JSON"
    )
    max_body_bytes: int = Field(
        8 << 20, ge=1 << 10, le=1 << 30, description="largest request body, bytes"
    )
    max_header_bytes: int = Field(
        16 << 10, ge=1 << 10, le=60 << 10, description="request line and headers, bytes"
    )
    max_depth: int = Field(
        128, ge=2, le=500, description="arrays and objects in one another, in a body"
    )
    max_stored_bytes: int = Field(
        2 << 30,
        ge=1 << 10,
        le=1 << 50,
        description="keys and values, each replica counted, bytes",
    )
    max_concurrent_requests: int = Field(
        256, ge=1, le=100_000, description="requests waiting or worked on"
    )
    max_connections: int = Field(
        4_096,
        ge=CONNECTIONS_MIN,
        le=1_000_000,
        description="connections open at the same time",
    )
    body_seconds: float = Field(
        10.0,
        gt=0,
        le=3_600,
        description="within which a body must have arrived, seconds",
    )
    request_seconds: float = Field(
        60.0, gt=0, le=86_400, description="after which a request is answered with 504"
    )
    idle_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="after which an idle connection is closed"
    )
    max_batch: int = Field(1_000, ge=1, le=100_000, description="operations in a batch")
    threads: int = Field(
        16, ge=2, le=256, description="requests worked on at the same time"
    )
    api_token: str | None = Field(
        None, min_length=8, pattern=_TOKEN, description="token for everything"
    )
    read_token: str | None = Field(
        None, min_length=8, pattern=_TOKEN, description="token that only reads"
    )
    allowed_host: tuple[str, ...] = Field(
        (),
        description="Host names to answer to besides localhost and IP addresses, "
        ".example.com: it and all below it",
    )
    engine: Literal["embedded", "etcd"] = Field(
        "embedded", description="where the data live: in this process, or in etcd"
    )
    etcd_endpoints: tuple[str, ...] = Field(
        (),
        description="client URLs of etcd's members, with commas between",
        examples=["http://10.0.0.1:2379,http://10.0.0.2:2379"],
    )
    local_members: int = Field(
        0, ge=0, le=7, description="start so many members of etcd, under data_dir"
    )
    etcd_prefix: str = Field(
        "kv/",
        pattern=r"^[!-~]{1,64}$",
        examples=["kv/"],
        description="what all its keys in etcd begin with: a store of its own for each",
    )
    etcd_ca: Path | None = Field(
        None, description="file of the authorities that sign etcd's certificates"
    )
    etcd_cert: Path | None = Field(
        None, description="file of our certificate, if etcd wants one"
    )
    etcd_key: Path | None = Field(None, description="file of our certificate's key")
    etcd_user: str | None = Field(
        None, min_length=1, description="name of a user of etcd"
    )
    etcd_password: str | None = Field(
        None, min_length=1, description="password of that user"
    )
    etcd_seconds: float = Field(
        5.0, ge=0.5, le=60, description="limit of one request to etcd, seconds"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message to log"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="a log line as text, or as one JSON object"
    )
    log_requests: Literal["none", "failed", "all"] = Field(
        "none", description="requests to log, failed: those answered with 5xx"
    )

    @field_validator("allowed_host")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if _HOST_NAME.fullmatch(name) is None and not is_address(name):
                raise ValueError(
                    f"{name!r} is not a bare name as kv.example.com, or .example.com for "
                    "all below it too: leave out scheme and port"
                )
        return names

    @field_validator("etcd_endpoints", mode="before")
    @classmethod
    def _split_urls(cls, urls: Any) -> Any:
        given = [urls] if isinstance(urls, str) else urls
        if not isinstance(given, list | tuple) or not all(
            isinstance(url, str) for url in given
        ):
            return urls
        parts = [part.strip() for url in given for part in url.split(",")]
        return [part for part in parts if part]

    @field_validator("etcd_endpoints")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_member_url(url):
                raise ValueError(f"{url!r} is not a URL as http://10.0.0.1:2379")
        return tuple(dict.fromkeys(url.rstrip("/") for url in urls))

    @model_validator(mode="after")
    def _check_engine(self) -> Settings:
        for name in sorted(self.foreign):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} means nothing with engine={self.engine}: leave it out, or "
                    f"choose --engine {self._engine_of(name)}"
                )
        if self.engine == "etcd" and bool(self.etcd_endpoints) == bool(
            self.local_members
        ):
            raise ValueError(
                "engine=etcd wants to know where etcd is: give etcd_endpoints (members that "
                "run already) or local_members (to start some here), not both"
            )
        if (self.etcd_user is None) != (self.etcd_password is None):
            raise ValueError("etcd_user and etcd_password belong together: give both")
        if (self.etcd_cert is None) != (self.etcd_key is None):
            raise ValueError("etcd_cert and etcd_key belong together: give both")
        if self.local_members and (self.etcd_ca or self.etcd_cert or self.etcd_user):
            raise ValueError(
                "local members talk over loopback, without TLS and users: leave out etcd_ca, "
                "etcd_cert and etcd_user, or give etcd_endpoints"
            )
        return self

    @model_validator(mode="after")
    def _check_relations(self) -> Settings:
        if self.replication_factor > self.nodes:
            raise ValueError(
                f"replication_factor={self.replication_factor} needs as many nodes "
                f"(nodes={self.nodes}): lower it or add nodes"
            )
        if self.min_in_sync > self.replicas_of_a_key:
            raise ValueError(
                f"min_in_sync={self.min_in_sync} can never be met by "
                f"{self.replicas_of_a_key} replicas: lower it"
            )
        if self.max_body_bytes < self.max_value_bytes + BODY_OVERHEAD_BYTES:
            raise ValueError(
                f"max_body_bytes={self.max_body_bytes} leaves no room for a value of "
                f"max_value_bytes={self.max_value_bytes}: raise it to at least "
                f"{self.max_value_bytes + BODY_OVERHEAD_BYTES}"
            )
        if self.host not in LOOPBACK and self.api_token is None:
            raise ValueError(
                f"host={self.host} is reachable from other machines: set api_token, or "
                "listen on 127.0.0.1"
            )
        if self.read_token is not None and self.api_token is None:
            raise ValueError(
                "read_token alone would leave writing open to all: set api_token too"
            )
        if self.read_token is not None and self.read_token == self.api_token:
            raise ValueError(
                "read_token and api_token are the same: choose another one"
            )
        return self

    @property
    def replicas_of_a_key(self) -> int:
        """How many nodes hold each key under this placement."""
        return self.nodes if self.placement == "full" else self.replication_factor

    @property
    def foreign(self) -> frozenset[str]:
        """Settings that mean something to another engine only."""
        names = (n for engine, n in OF_ENGINE.items() if engine != self.engine)
        return frozenset(name for some in names for name in some)

    @staticmethod
    def _engine_of(name: str) -> str:
        return next(engine for engine, names in OF_ENGINE.items() if name in names)

    def public(self) -> dict[str, Any]:
        """Every setting that means something here but the secrets, as JSON has it."""
        return self.model_dump(mode="json", exclude={*SECRET, *self.foreign})

    def shown_schema(self) -> dict[str, Any]:
        """JSON Schema of what `public` of these settings shows."""
        schema = self.public_schema()
        for name in self.foreign & schema["properties"].keys():
            del schema["properties"][name]
        return schema

    @classmethod
    def public_schema(cls) -> dict[str, Any]:
        """JSON Schema of every setting but the secrets."""
        schema = cls.model_json_schema(mode="serialization")
        for name in SECRET:
            del schema["properties"][name]
        return schema
