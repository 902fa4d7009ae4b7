"""Why the system does not let us use a file or a folder, in words.

An error of the system names the step that failed ("Permission denied", "disk I/O error"),
not the cause. Here the way to the path is looked at: which part of it stands in the way,
whose that is, and what would help.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

# Errors that the way to a path may explain; others ("no space left") say it themselves.
_OF_ACCESS = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_LETTERS = {os.R_OK: "r", os.W_OK: "w", os.X_OK: "x"}


@dataclass(frozen=True)
class Use:
    """How a path is to be used."""

    word: str
    is_folder: bool
    rights: int  # as os.access has them
    is_made: bool  # where it is missing; a folder with its parents


READ = Use("read", is_folder=False, rights=os.R_OK, is_made=False)
WRITE = Use("write", is_folder=False, rights=os.W_OK, is_made=True)
CHANGE = Use("change", is_folder=False, rights=os.R_OK | os.W_OK, is_made=False)
ENTER = Use("use", is_folder=True, rights=os.X_OK, is_made=False)
KEEP = Use("use", is_folder=True, rights=os.R_OK | os.W_OK | os.X_OK, is_made=True)


@dataclass(frozen=True)
class Obstacle:
    """A part of the way to a path that stands in the way: why, and what would help."""

    path: Path
    why: str
    remedy: str

    def told_of(self, path: Path) -> str:
        """The obstacle in one line, as the reason why `path` cannot be used."""
        return f"{'it' if self.path == path else _shown(self.path)} {self.why}: {self.remedy}"


def cannot(use: Use, path: Path | str, error: BaseException, instead: str = "") -> str:
    """One line that says why a path could not be used and what would work.

    `instead` is another way out, such as "use another --data-dir".
    """
    why = reason(use, Path(path), error)
    return f"cannot {use.word} {path}: {why}{instead and f'; or {instead}'}"


def reason(use: Use, path: Path, error: BaseException) -> str:
    """Why a path could not be used, and what would help; the end of a sentence."""
    found = None
    if not isinstance(error, OSError) or error.errno in _OF_ACCESS:
        found = obstacle(path, use) or _at_what_it_names(error, use)
    if found is None:
        return str(getattr(error, "strerror", None) or error)
    return found.told_of(path)


def require(path: Path, use: Use, named: Path | None = None) -> None:
    """PermissionError, with what is in the way, if a path cannot be used.

    `named` is what the caller's message is about, where that is not the path.
    """
    found = obstacle(path, use)
    if found is not None:
        raise PermissionError(found.told_of(path if named is None else named))


def obstacle(path: Path, use: Use) -> Obstacle | None:
    """The first part of the way to a path that stands in the way of its use, if any."""
    for part in (*reversed(path.parents), path):
        try:
            mode = part.stat().st_mode
        except FileNotFoundError:
            return _missing(part, path, use)
        except PermissionError:
            return _forbidden(part.parent, os.X_OK)
        except OSError as error:  # a name that is too long, a link to itself
            why = f"cannot be looked up ({error.strerror or error})"
            return Obstacle(part, why, "check the name, and links on the way")
        if (part != path or use.is_folder) and not stat.S_ISDIR(mode):
            return Obstacle(part, "is not a folder, as it should be", "move it away")
        if part == path and not use.is_folder and stat.S_ISDIR(mode):
            return Obstacle(
                part, "is a folder, not a file", "name another, or move it away"
            )
    return _forbidden(path, use.rights, _chown(path, is_folder=use.is_folder))


def _missing(part: Path, path: Path, use: Use) -> Obstacle | None:
    """Why a part that is not there stands in the way; None where it can be made."""
    if part.is_symlink():
        why = f"is a symbolic link to {os.readlink(part)}, which is not there"
        return Obstacle(part, why, "make or mount that, or remove the link")
    if not use.is_made or (part != path and not use.is_folder):
        return Obstacle(part, "is not there", "check the name, or make it first")
    order = f"install -d -m 700 -o {_name(os.geteuid())} {quote(str(path))}"
    return _forbidden(part.parent, os.W_OK | os.X_OK, order if use.is_folder else "")


def _forbidden(part: Path, rights: int, order: str = "") -> Obstacle | None:
    """Why we do not have rights on what is there; None where we have.

    `order` is a command by which root would mend it.
    """
    by_effective_user = os.access in os.supports_effective_ids
    if os.access(part, rights, effective_ids=by_effective_user):
        return None
    if rights & os.W_OK and os.statvfs(part).f_flag & os.ST_RDONLY:
        remedy = "mount it for writing"
        return Obstacle(part, "is on a file system that is read-only", remedy)
    found, me = part.stat(), os.geteuid()
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid != me:
        owner = _user(found.st_uid)
        why = f"belongs to {owner}, {mode}, and this process runs as {_user(me)}"
        return Obstacle(part, why, _remedy(found.st_uid, order))
    if (found.st_mode >> 6) & rights != rights:
        letters = "".join(each for right, each in _LETTERS.items() if rights & right)
        why = f"is ours, but its {mode} keeps us out"
        return Obstacle(part, why, f"chmod u+{letters} {quote(str(part))}")
    why = f"is ours, {mode}, and yet we are kept out"
    return Obstacle(part, why, "look for attributes (lsattr) or a security module")


def _chown(path: Path, *, is_folder: bool) -> str:
    flag = "-R " if is_folder else ""
    return f"chown {flag}{_name(os.geteuid())} {quote(str(path))}"


def _remedy(owner: int, order: str) -> str:
    """Another user, an order to root, another place. To run it as root is no advice."""
    ways = [f"run it as {_name(owner)}"] if owner != 0 else []
    ways.append(f"as root `{order}`" if order else "choose a place that is ours")
    return ", or ".join(ways)


def _at_what_it_names(error: BaseException, use: Use) -> Obstacle | None:
    """An obstacle at the file or folder that an error names, such as one within ours."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str):
        return None
    is_folder = os.path.isdir(name)
    rights = use.rights if is_folder else use.rights & ~os.X_OK
    return obstacle(Path(name), replace(use, is_folder=is_folder, rights=rights))


def _shown(path: Path) -> str:
    return "the folder it was started in" if path == Path() else str(path)


def _user(number: int) -> str:
    name = _name(number)
    return f"uid {number}" if name == str(number) else f"{name} (uid {number})"


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
