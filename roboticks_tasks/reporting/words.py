"""Words of devices and tests, made harmless and short for people and for CI systems."""

from __future__ import annotations

import re

WIDEST = 160
"""Characters of a quotation."""

STARTS_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
"""Where a line begins that a GitHub runner obeys; it trims the white space before it."""

HIDDEN_COMMAND = re.compile(r"##(?=\w*\[)")
"""The older kind (`##[add-mask]`, `##vso[…]`), which runners of GitHub and Azure obey wherever it stands in a line."""


def harmless(text: str, most: int = WIDEST) -> str:
    """Return `text` as one line of at most `most` characters, with ? for what cannot be printed."""
    text = " ".join(text[: 8 * most + 8_192].split())
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def disarmed(text: str) -> str:
    """Return `text` so that no line of it is a command for a CI system's runner; it stays readable."""
    return HIDDEN_COMMAND.sub("# #", STARTS_COMMAND.sub(r"\1: ", text))


def count(number: int, noun: str) -> str:
    """Return "1 test", "2 tests"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
