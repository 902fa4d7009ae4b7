"""The command line: `python run.py [serve] [flags]`, or one of the commands of its help.

Every Python can read this file, so that one that is too old is told so and not shown a
traceback. The commands are in command_line.py.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - here an older one ends
    sys.stderr.write(
        "run.py: cannot run when Python is older than 3.11 (python="
        + sys.executable
        + ", version="
        + sys.version.split()[0]
        + "): use .venv/bin/python run.py, which `make run PYTHON=python3.12` sets up\n"
    )
    sys.exit(2)

__all__ = ["main"]

try:
    from command_line import main

    if __name__ == "__main__":
        sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:  # where nothing else was made of it
    sys.exit(130)
