"""Judges what clients of a register store saw: a library of its own.

It knows nothing of the store beside it. A history (`checker.history`) is what clients
asked and were told, and when; `checker.linearizability` says whether one register per
key, read and written in one order, explains it; `checker.consistency` asks for weaker
promises one by one, so that a violation has a name. The command line is `checker.cli`,
the file format `docs/histories.md`.
"""
