"""Becomes another program, which ends when the one that started it does (Linux).

`python leash.py PARENT COMMAND...`, where PARENT is the id of the process that calls. Who
starts a server ends it too; this is for when that one is killed and cannot. The kernel
remembers the wish over the exec (prctl(2), PR_SET_PDEATHSIG), so the id of the process is
the program's own and nothing stands between. It is the end of the *thread* that started
the process that counts. Elsewhere than on Linux nothing of it holds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> bool:
    """Let this process end when its parent does; False if that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def main(arguments: list[str]) -> int:
    """Ask for the signal, make sure that it is not too late to ask, and become it."""
    parent, *command = arguments
    if not end_with(int(parent)):
        return 1
    # By it who started the program ends it, also where that one is told to ignore it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
