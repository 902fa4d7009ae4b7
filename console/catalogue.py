"""Every command of `python run.py`, in the groups in which its help shows them.

Nothing is imported for the table: what a command needs is loaded when it is called.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a command is, as `module:name`, and one line on what it does."""

    where: str
    about: str


# Each takes the rest of the line, and returns the status to exit with.
SERVE = {
    "serve": Entry("serving:main", "serve over HTTP; what is done if none is named"),
}
MEASURE = {
    "simulate": Entry("simulation.cli:main", "the store in virtual time, broken, judged"),
    "check": Entry("checker.cli:main", "judge a history of what clients saw"),
    "experiment": Entry("experiments.cli:main", "break a real cluster, see what survives"),
    "bench": Entry("benchmarks.cli:main", "measure this store beside others"),
}  # fmt: skip
# Each is a click command.
CLIENT = {
    "status": Entry("console.status:status", "the cluster, node by node"),
    "watch": Entry("console.watch:watch", "the same, live, with what is going on"),
    "put": Entry("console.keys:put", "create or update a key"),
    "get": Entry("console.keys:get", "print the value of a key"),
    "del": Entry("console.keys:delete", "delete a key"),
    "keys": Entry("console.keys:keys", "list keys, in order"),
    "where": Entry("console.placement:where", "which nodes hold a key, and why those"),
    "fail": Entry("console.nodes:fail", "take a node down"),
    "recover": Entry("console.nodes:recover", "bring a node back"),
    "add-node": Entry("console.nodes:add_node", "add a node, where the engine can"),
    "remove-node": Entry("console.nodes:remove_node", "take a node out for good"),
    "events": Entry("console.around:events", "what happened to the cluster"),
    "config": Entry("console.around:config", "the settings in force"),
    "backup": Entry("console.backup:backup", "write every key to a file, while serving"),
    "restore": Entry("console.backup:restore", "write a backup to an empty store"),
    "completion": Entry("console.completion:completion", "let bash or zsh complete `kv`"),
}  # fmt: skip
PROGRAMS = {**SERVE, **MEASURE}
COMMANDS = {**SERVE, **CLIENT, **MEASURE}
