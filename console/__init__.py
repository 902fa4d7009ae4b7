"""The command line of a running store, over its HTTP API and nothing else.

`catalogue.py` is the table of commands. Each is a click command in a module of its
family, made with `ClientCommand` (command.py), which adds --url and its like, the exit
statuses and the handling of errors; so a new command is a function and a line there.
"""
