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
    Exit.WRONG: "called wrongly, or refused as invalid",
    Exit.CONDITION: "the condition does not hold (--if-version, --if-absent)",
    Exit.UNAVAILABLE: "unavailable, or no connection; nothing was done: try again",
    Exit.UNCERTAIN: "uncertain: it may have happened, so look first",
    Exit.NOT_ALLOWED: "not allowed: a token is missing, or may not do this",
    Exit.LOST: "data are lost; nothing was done, and to try again does not help",
}
# Of all of them together: 1 means something else of each that ends so, see `meanings`.
EVERY = dict(
    sorted(
        {
            Exit.NO: "no, such as no such key: the help of each command says when",
            **MEANING,
        }.items()
    )
)
ALWAYS = (Exit.DONE, Exit.WRONG, Exit.UNAVAILABLE, Exit.NOT_ALLOWED)  # of any command


def meanings(*more: Exit, no: str = "") -> dict[Exit, str]:
    """The statuses that a command may end with, in order, and what each means.

    `no` is what status 1 means of it; empty: it never ends so.
    """
    found = {each: MEANING[each] for each in (*ALWAYS, *more)}
    return dict(sorted((found | ({Exit.NO: no} if no else {})).items()))
