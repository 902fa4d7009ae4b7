"""A line of bash in words, as far as completion needs it.

bash cuts words at signs such as `:` when it completes, though not when it runs a command,
and replaces only what comes after the last of them. (Bash Reference Manual, 8.6
Programmable Completion, and COMP_WORDBREAKS)
"""

from __future__ import annotations

import re

BREAKS = frozenset("\"'@><=;|&(:")
_BARE = re.compile(r"[\s!\"#$&'()*;<>?\[\\\]^`{|}]|^~")  # what a backslash goes before
_IN_QUOTES = re.compile(r'["\\$`]')


def last_words(line: str) -> tuple[list[str], str, str]:
    """The words before the last one, its name left out; the last as typed; its value."""
    words: list[tuple[str, str]] = []
    raw = value = quote = ""
    signs = iter(line)
    for sign in signs:
        if not quote and sign.isspace():
            if raw:
                words.append((raw, value))
            raw = value = ""
            continue
        raw += sign
        if sign == "\\" and quote != "'":
            following = next(signs, "")
            raw += following
            kept = quote and following not in '"\\$`'
            value += sign + following if kept else following
        elif sign == quote:
            quote = ""
        elif not quote and sign in "\"'":
            quote = sign
        else:
            value += sign
    return [text for _, text in words[1:]], raw, value


def rest_of_word(raw: str, candidate: str) -> str:
    """What bash must put in place of the part of `raw` that it takes for the word."""
    start, quote = _break_of(raw)
    kept = last_words(f"kv {raw[:start]}")[2]
    rest = candidate.removeprefix(kept)
    if quote == "'":
        return rest.replace("'", "'\\''")
    if quote == '"':
        return _IN_QUOTES.sub(r"\\\g<0>", rest)
    return _BARE.sub(r"\\\g<0>", rest)


def _break_of(raw: str) -> tuple[int, str]:
    """Where bash's word begins in the typed one, and the quote that is open there."""
    start, quote, skip = 0, "", False
    for place, sign in enumerate(raw):
        if skip:
            skip = False
        elif sign == "\\" and quote != "'":
            skip = True
        elif sign == quote:
            quote, start = "", place + 1
        elif not quote and sign in BREAKS:
            start = place + 1
            quote = sign if sign in "\"'" else ""
    return start, quote
