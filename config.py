"""The settings, checked as a whole when built.

`Settings(...)` is what the rest of the program sees: frozen, complete, no file or
environment read. `load_settings(argv)` makes one from flags, the environment (`KV_...`),
`kv.toml` and the defaults, in that order of precedence.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
WILDCARDS = frozenset(("0.0.0.0", "::", ""))  # every address of the machine
SECRET = frozenset(("api_token", "read_token"))
BODY_OVERHEAD_BYTES = 8 << 10  # of a body over its value: key, field names, blanks
FILE_NAME = "kv.toml"
PREFIX = "KV_"
OF_CLIENTS = frozenset(("KV_URL", "KV_TOKEN"))  # not settings: for console/
# The settings as --help shows them; every setting is in one group.
GROUPS = {
    "where it listens": "host port threads",
    "the cluster": "nodes replication_factor protocol placement consistency min_in_sync",
    "what survives": "storage data_dir durability engine",
    "who may call": "api_token read_token allowed_host",
    "limits of a request": (
        "max_key_bytes max_value_bytes max_body_bytes max_header_bytes max_depth max_batch"
    ),
    "limits of the service": (
        "max_stored_bytes max_concurrent_requests max_connections body_seconds "
        "request_seconds idle_seconds"
    ),
    "upkeep": (
        "tombstone_grace_seconds maintenance_seconds scrub_rows max_clock_jump_seconds"
    ),
    "logs": "log_level log_format log_requests",
}


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
    max_clock_jump_seconds: float = Field(
        60.0,
        ge=0,
        le=10 * 365 * 86_400,
        description="how far ahead of the clock a restored version may be, seconds",
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
        2 << 30, ge=1 << 10, description="keys and values, each replica counted, bytes"
    )
    max_concurrent_requests: int = Field(
        256, ge=1, le=100_000, description="requests waiting or worked on"
    )
    max_connections: int = Field(
        4_096, ge=16, le=1_000_000, description="connections open at the same time"
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
            if re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", name) is None:
                raise ValueError(
                    f"{name!r} is not a bare name: leave out scheme and port"
                )
        return names

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

    def public(self) -> dict[str, Any]:
        """Every setting but the tokens, as JSON has it."""
        return self.model_dump(mode="json", exclude=set(SECRET))

    @classmethod
    def public_schema(cls) -> dict[str, Any]:
        """JSON Schema of `public`."""
        schema = cls.model_json_schema(mode="serialization")
        for name in SECRET:
            del schema["properties"][name]
        return schema


class BadSetting(Exception):
    """A setting is wrong: one line that names it, its value and what would do."""


def load_settings(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """The settings from flags, environment and `kv.toml` in `cwd`, the first that has it.

    `environ` None is that of the process, `cwd` None its folder. Raises BadSetting, or
    SystemExit after --help.
    """
    environ = os.environ if environ is None else environ
    flags = vars(_parser().parse_args(argv))
    sources = {
        FILE_NAME: _from_file((cwd or Path()) / FILE_NAME),
        "the environment": _from_environment(environ),
        "the command line": {n: v for n, v in flags.items() if v is not None},
    }
    chosen = {name: v for values in sources.values() for name, v in values.items()}
    origin = {name: where for where, values in sources.items() for name in values}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        raise BadSetting(_explain(error, origin)) from None  # it may hold a token


class _Parser(argparse.ArgumentParser):
    """Raises BadSetting where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        """Say which flag is meant, where one is near."""
        unknown = re.match("unrecognized arguments: (--[^ =]+)", message)
        if unknown is not None:
            message = f"unknown flag {unknown[1]}{_suggest(unknown[1], _flags())}"
        raise BadSetting(f"{message}; --help lists the flags")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run.py",
        usage="python run.py [serve] [flags]",
        description="Serve the key-value store over HTTP. Defaults are in [brackets].",
        epilog=f"Each flag is also an environment variable ({PREFIX}PORT for --port) and "
        f"a key of {FILE_NAME} (port), used in that order. `python run.py --help` lists "
        "the other commands.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(
            prog, max_help_position=34, width=96
        ),
    )
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split():
            group.add_argument(
                _flag(name),
                dest=name,
                metavar=_metavar(name),
                action="append" if _is_list(name) else "store",
                help=_help(name),
            )
    return parser


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"cannot read {path}: {error}") from error
    for name, value in values.items():
        if name not in Settings.model_fields:
            near = _suggest(name, Settings.model_fields)
            raise BadSetting(f"unknown setting {name} in {path}{near}")
        if isinstance(value, bool | dict):
            raise BadSetting(f"bad setting {name} in {path}: give {_accepted(name)}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in OF_CLIENTS:
            continue
        name = known.get(variable)
        if name is None:
            near = _suggest(variable, [*known, *sorted(OF_CLIENTS)])
            raise BadSetting(f"unknown variable {variable}{near}")
        found[name] = text.split(",") if _is_list(name) else text
    return found


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    """The first thing that is wrong, as one line."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"bad settings: {first['msg'].removeprefix('Value error, ')}"
    name = str(first["loc"][0])
    value = "" if name in SECRET else f"={_shown(first['input'])}"
    where = f" (from {origin[name]})" if name in origin else ""
    return f"bad setting {name}{value}{where}: give {_accepted(name)}"


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _accepted(name: str) -> str:
    """What a setting takes, in words."""
    schema = Settings.public_schema()["properties"].get(name, {"minLength": 8})
    if "enum" in schema or "const" in schema:
        return " or ".join(schema.get("enum") or [schema["const"]])
    if "minLength" in schema:
        return f"at least {schema['minLength']} characters"
    if schema.get("type") == "array":
        return "host names without scheme and port"
    if schema.get("type") not in ("integer", "number"):
        return f"a {schema.get('format', 'text')}"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    above = "above" if "exclusiveMinimum" in schema else "of at least"
    if "maximum" in schema:
        return f"{kind} from {least} to {schema['maximum']}"
    return f"{kind} {above} {least}"


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    again = "; may be given again" if _is_list(name) else ""
    default = "" if field.default in (None, ()) else f" [{field.default}]"
    return f"{field.description}{again}{default}".replace("%", "%%")


def _metavar(name: str) -> str:
    kind = Settings.model_fields[name].annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    kinds: dict[Any, str] = {int: "N", float: "SECONDS", Path: "FOLDER"}
    return kinds.get(kind, name.rpartition("_")[2].upper())


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flags() -> list[str]:
    return [_flag(name) for name in Settings.model_fields]


def _is_list(name: str) -> bool:
    return get_origin(Settings.model_fields[name].annotation) is tuple


def _suggest(given: str, known: Iterable[str]) -> str:
    """A known name that was probably meant, as the end of a sentence."""
    names = list(known)
    near = [name for name in names if name.startswith(given)]
    near += difflib.get_close_matches(given, names, 1, 0.5)
    return f": did you mean {near[0]}?" if near else ""
