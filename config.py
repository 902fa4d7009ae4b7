"""The settings, checked as a whole when built.

`Settings(...)` is what the rest of the program sees: frozen, complete, no file or
environment read. `load_settings(argv)` makes one from flags, the environment (`KV_...`),
`kv.toml` and the defaults, in that order of precedence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
        600.0, ge=0, description="how long a delete is remembered at least, seconds"
    )
    maintenance_seconds: float = Field(
        30.0, gt=0, description="pause between rounds of background upkeep, seconds"
    )
    max_value_bytes: int = Field(
        1 << 20, ge=1, le=1 << 26, description="largest value, bytes as JSON"
    )
    max_batch: int = Field(1_000, ge=1, le=100_000, description="operations in a batch")
    threads: int = Field(
        4, ge=1, le=256, description="requests served at the same time"
    )
    api_token: str | None = Field(
        None, min_length=8, description="token for everything"
    )
    read_token: str | None = Field(
        None, min_length=8, description="token that only reads"
    )
    allowed_host: tuple[str, ...] = Field(
        (), description="Host names to answer to besides loopback"
    )
    engine: Literal["embedded"] = Field("embedded", description="where the data lives")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message to log"
    )

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
        if self.host not in LOOPBACK and self.api_token is None:
            raise ValueError(
                f"host={self.host} is reachable from other machines: set api_token, or "
                "listen on 127.0.0.1"
            )
        return self

    @property
    def replicas_of_a_key(self) -> int:
        """How many nodes hold each key under this placement."""
        return self.nodes if self.placement == "full" else self.replication_factor
