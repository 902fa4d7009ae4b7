"""The files that this process may have open, and how many connections they leave room for.

A connection is a file too. Where connections take the last one, a node can no longer write
its file anew, and the server asks for the next connection again and again, which takes a
whole core. So connections get what the rest of the process leaves.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from config import CONNECTIONS_MIN, CannotOpen, Settings
from web.server import SPARE_THREADS

OPEN_AT_THE_START = 16  # where the system does not tell
SERVER_FILES = 8  # of its runtime
NODE_FILES = 4  # two of the database and its log, and its folder for a moment
REWRITE_FILES = 10  # of two nodes whose files are written anew
MEMBERS_MIN = 3  # of etcd, of which there may be more than are named
REQUEST_FILES = 2  # a connection to a member, and what waits for its answer
KEEPER_FILES = 10  # of a member that is started, and of the logs of all
log = logging.getLogger(__name__)


class TooFewFiles(CannotOpen):
    """The system lets this process open too few files to serve."""


def within_files(settings: Settings) -> Settings:
    """The settings with as many connections as there is room for, said in the log.

    The soft limit is raised as far as that is needed and allowed. Raises TooFewFiles.
    """
    others = _open_now() + _files_of(settings)
    limit = _allowed(others + settings.max_connections)
    if limit is None:
        return settings
    room = limit - others
    if room < CONNECTIONS_MIN:
        raise TooFewFiles(
            f"cannot serve when so few files may be open (limit={limit}, needed for other "
            f"things than connections={others}): allow at least {others + CONNECTIONS_MIN} "
            "(ulimit -n, LimitNOFILE), or choose fewer nodes or threads"
        )
    if room >= settings.max_connections:
        return settings
    log.warning(
        "max_connections is %d instead of %d, as only %d files may be open and other things "
        "need %d: allow %d (ulimit -n, LimitNOFILE) to have them all",
        *(room, settings.max_connections, limit, others),
        others + settings.max_connections,
    )
    return settings.model_copy(update={"max_connections": room})


def _files_of(settings: Settings) -> int:
    """How many files may be open at once, connections of clients aside."""
    threads = settings.threads + SPARE_THREADS
    files = SERVER_FILES + threads
    if settings.engine == "etcd":
        named = max(len(settings.etcd_endpoints), settings.local_members, MEMBERS_MIN)
        return files + named * threads * REQUEST_FILES + KEEPER_FILES
    if settings.storage == "sqlite":
        return files + settings.nodes * NODE_FILES + REWRITE_FILES
    return files


def _open_now() -> int:
    """How many files are open: ours, and those that whoever started us left open."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(folder)) - 1  # that is the folder itself
    return OPEN_AT_THE_START


def _allowed(wanted: int) -> int | None:
    """How many files may be open, `wanted` if that can be had; None: as many as we like."""
    try:
        import resource
    except ImportError:  # there is no such limit
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # the system may allow less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return soft
