"""The exit statuses of the client commands: one table, from which every help is made."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a script is told; 4 may be tried again as it is, 5 and 7 may not."""

    DONE = 0
    NO = 1
    WRONG = 2
    CONDITION = 3
    UNAVAILABLE = 4
    UNCERTAIN = 5
    NOT_ALLOWED = 6
    LOST = 7


MEANING = {
    Exit.DONE: "done",
    Exit.NO: "the answer is no: no such key, or something is not well",
    Exit.WRONG: "called wrongly, or refused as invalid",
    Exit.CONDITION: "the condition does not hold (--if-version, --if-absent)",
    Exit.UNAVAILABLE: "unavailable, or no connection; nothing was done: try again",
    Exit.UNCERTAIN: "uncertain: it may have happened, so look first",
    Exit.NOT_ALLOWED: "not allowed: a token is missing, or may not do this",
    Exit.LOST: "data are lost; nothing was done, and to try again does not help",
}
