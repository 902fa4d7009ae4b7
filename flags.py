"""The settings from flags, the environment (`KV_...`), `kv.toml` and the defaults.

In that order of precedence. What is wrong is told in one line that names the setting, the
value, where it came from and what would be accepted.
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

from pydantic import ValidationError

from access import READ, cannot
from config import OF_ENGINE, SECRET, CannotOpen, Settings
from links import is_of_link
from texts import NotUtf8, utf8_text

FILE_NAME = "kv.toml"
PREFIX = "KV_"
OF_CLIENTS = frozenset(("KV_URL", "KV_TOKEN"))  # not settings: for console/
NEAR = 0.75  # of difflib: one letter of four may differ, as in a slip of the finger
CUT_SHORT = 3  # letters of a name that was given without its end
# The settings as --help shows them; every setting is in one group.
GROUPS = {
    "where it listens": "host port threads",
    "the cluster": "nodes replication_factor protocol placement consistency min_in_sync",
    "what survives": "engine storage data_dir durability",
    "with --engine etcd": " ".join(OF_ENGINE["etcd"]),
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


class BadSetting(CannotOpen):
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


def passed_over(environ: Mapping[str, str] | None = None) -> list[str]:
    """Variables that begin like settings, and tell of a Service or link named so.

    Nobody who starts the store has set them, so they are no mistake of theirs.
    """
    environ = os.environ if environ is None else environ
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and is_of_link(name, environ)
    )


class _Parser(argparse.ArgumentParser):
    """Raises BadSetting where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        """Say which flag is meant, where one is near."""
        unknown = re.match("unrecognized arguments: (--[^ =]+)", message)
        if unknown is not None:
            message = f"unknown flag {unknown[1]}{_suggest(unknown[1], _flags(), '--')}"
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
        values = tomllib.loads(utf8_text(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSetting(cannot(READ, path, error)) from error
    except (NotUtf8, tomllib.TOMLDecodeError, RecursionError) as error:
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
    others = {*OF_CLIENTS, *passed_over(environ)}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in others:
            continue
        name = known.get(variable)
        if name is None:
            near = _suggest(variable, [*known, *sorted(OF_CLIENTS)], PREFIX)
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
    schema = Settings.model_json_schema(mode="serialization")["properties"][name]
    schema = schema.get("anyOf", [schema])[0]  # the other one is null
    if "examples" in schema:
        return f"something like {schema['examples'][0]}"
    if "enum" in schema or "const" in schema:
        return " or ".join(schema.get("enum") or [schema["const"]])
    if "minLength" in schema:
        least = schema["minLength"]
        if "pattern" in schema:
            return f"at least {least} characters of ASCII, no blank at either end"
        return f"at least {least} characters" if least > 1 else "a text, not empty"
    if schema.get("type") == "array":
        return "host names without scheme and port, .example.com for all below it"
    if schema.get("type") not in ("integer", "number"):
        return f"a {schema.get('format', 'text')}"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    is_open = "exclusiveMinimum" in schema
    if "maximum" not in schema:
        return f"{kind} {'above' if is_open else 'of at least'} {least}"
    most = schema["maximum"]
    if is_open:
        return f"{kind} above {least}, at most {most}"
    return f"{kind} from {least} to {most}"


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


def _suggest(given: str, known: Iterable[str], prefix: str = "") -> str:
    """A known name that was probably meant, as the end of a sentence; else nothing.

    What all names begin with makes none of them nearer.
    """
    names = {name.removeprefix(prefix): name for name in known}
    given = given.removeprefix(prefix)
    near = [name for name in names if name.startswith(given)]
    if len(near) != 1 or len(given) < CUT_SHORT:
        near = difflib.get_close_matches(given, names, 1, NEAR)
    return f": did you mean {names[near[0]]}?" if near else ""
