"""Processes that may only what an ordinary user may, also where the tests run as root.

Root without a few capabilities is a user like any other: what belongs to another one is
closed to it. So nothing but the rights differs from the other tests, and whatever root
alone can read (such as Python itself, if it lies there) can still be run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

OTHER = 65_534  # a user that owns nothing
_DROPPED = (0, 1, 2, 3)  # CAP_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER
_PR_CAPBSET_DROP = 24
_WRAPPER = f"""
import ctypes, os, sys
system = ctypes.CDLL(None, use_errno=True)
for number in {_DROPPED}:
    if system.prctl({_PR_CAPBSET_DROP}, number, 0, 0, 0):
        sys.exit("cannot drop a capability: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""


def as_ordinary_user(*command: str) -> list[str]:
    """A command that runs another one, without what root may more than others."""
    if os.geteuid() != 0:
        return [*command]
    return [sys.executable, "-c", _WRAPPER, *command]


def give_away(path: Path) -> None:
    """Let another user own a file, or a folder with all that is in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    for each in [path, *path.rglob("*")]:
        os.chown(each, OTHER, OTHER, follow_symlinks=False)


def take_back(path: Path) -> None:
    """Undo `give_away`."""
    for each in [path, *path.rglob("*")]:
        os.chown(each, os.geteuid(), os.getegid(), follow_symlinks=False)
