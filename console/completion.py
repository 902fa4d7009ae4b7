"""Completion in a shell: `completion bash|zsh`, and what its script asks back.

The script makes a shell function `kv` that calls this program. On Tab it calls the
command again with the line so far, and prints one candidate a line: in bash as the line
must go on, quotes included; in zsh as it is, a tab and a description, since zsh quotes.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args, get_origin

import click
from click.shell_completion import CompletionItem, ShellComplete

from console.catalogue import COMMANDS, PROGRAMS
from console.cli import Commands
from console.session import say
from console.shell_words import last_words, rest_of_word

FILES = 3  # exit status that asks the script for names of files
OPTIONS = ("--help",)
BASH = """\
kv() { @PROGRAM@ "$@"; }
_kv_complete() {
    local answer
    COMPREPLY=()
    answer=$(@PROGRAM@ completion bash --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    if [[ $? -eq 3 ]]; then
        compopt -o default
    elif [[ -n $answer ]]; then
        mapfile -t COMPREPLY <<<"$answer"
    fi
}
complete -o nosort -F _kv_complete kv 2>/dev/null || complete -F _kv_complete kv
"""
ZSH = """\
kv() { @PROGRAM@ "$@"; }
_kv_complete() {
    local answer line
    local -a values shown
    answer=$(@PROGRAM@ completion zsh -- \\
        "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    if [[ $? -eq 3 ]]; then
        _files
        return
    fi
    for line in "${(@f)answer}"; do
        [[ -n $line ]] || continue
        values+=("${line%%$'\\t'*}")
        shown+=("${line/$'\\t'/  -- }")
    done
    compadd -V kv -l -d shown -a values
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _kv_complete kv
"""
SCRIPTS: Mapping[str, str] = {"bash": BASH, "zsh": ZSH}
HELP = """Print a script that lets SHELL complete the commands, options, keys and nodes of `kv`.

`kv` is a function that calls this program, from any folder. Put the line of the example
into ~/.bashrc, or with zsh into ~/.zshrc. Keys and nodes come from the store of --url or
KV_URL, if it answers within half a second."""
EXAMPLE = """
  $ eval "$(python run.py completion bash)"
  $ kv put greeting hello
  greeting: written on nodes 0 and 2, version 01a203f300fc00000000
"""


@click.command(
    "completion", help=HELP, epilog=f"\b\nExample:\n{EXAMPLE.strip(chr(10))}"
)
@click.argument("shell", type=click.Choice(sorted(SCRIPTS)))
@click.argument("words", nargs=-1, metavar="")
@click.option("--line", hidden=True)
def completion(shell: str, words: tuple[str, ...], line: str | None) -> int:
    """Print the script; or, asked by it, the candidates."""
    if line is None and not words:
        program = shlex.join([sys.executable, os.path.abspath(sys.argv[0])])
        say(SCRIPTS[shell].replace("@PROGRAM@", program).rstrip())
        return 0
    if line is None:
        return _reply(
            words[:-1], words[-1], lambda item: f"{item.value}\t{item.help or ''}"
        )
    before, raw, value = last_words(line)
    return _reply(before, value, lambda item: rest_of_word(raw, item.value))


def _reply(
    before: Sequence[str], incomplete: str, shown: Callable[[CompletionItem], str]
) -> int:
    if before and before[0] in PROGRAMS and before[0] != "serve":
        return FILES
    found = candidates(before, incomplete)
    if any(item.type in ("file", "dir") for item in found):
        return FILES
    for item in found:
        say(shown(item).rstrip("\t"))
    return 0


def candidates(before: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """What may follow these words of a command line, the program's name left out."""
    if not before and incomplete[:1] != "-":
        return [
            CompletionItem(name, help=entry.about)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
    if not before or before[0] == "serve" or before[0][:1] == "-":
        known = _choices(before[-1]) if before else ()
        return [
            CompletionItem(word)
            for word in known or _flags()
            if word.startswith(incomplete)
        ]
    shell = ShellComplete(Commands("run.py"), {}, "run.py", "")
    return shell.get_completions(list(before), incomplete)


def _flags() -> list[str]:
    """The flags of serve, which are long in the loading."""
    from config import Settings

    flags = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
    return [*flags, *OPTIONS]


def _choices(flag: str) -> tuple[str, ...]:
    """The words that a flag of serve takes, if it takes one of a few."""
    from config import Settings

    field = Settings.model_fields.get(flag.removeprefix("--").replace("-", "_"))
    kind = field.annotation if field is not None else None
    return get_args(kind) if get_origin(kind) is Literal else ()
