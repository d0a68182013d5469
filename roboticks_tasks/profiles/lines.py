"""On which line of a TOML text each key is set; tomllib, which parses it, does not tell."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence

Place = tuple[str | int, ...]
"""The way to a value: names of keys, and the index in a list of tables or values."""

TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<word>\"{3}(?:\\.|[^\\])*?\"{3}\"{0,2} | '{3}.*?'{3}'{0,2} | "(?:\\.|[^"\\])*" | '[^']*' | [^\s\[\]{}=,.\#"']+)
    | (?P<mark>.)
    """,
    re.DOTALL | re.VERBOSE,
)


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line that sets the value at `place` in valid TOML, or the nearest table around it that has a line."""
    lines = key_lines(text)
    return next((lines[tuple(place[:n])] for n in range(len(place), 0, -1) if tuple(place[:n]) in lines), None)


def key_lines(text: str) -> dict[Place, int]:
    """Return the line, from 1, of each key, table and list entry in `text`, which must be valid TOML."""
    return _Reader(text).read()


class _Reader:
    """Walk through the tokens of a text that is known to be valid, so that nothing needs to be checked."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        self._next = 0
        self._lines: dict[Place, int] = {}
        line = 1
        for match in TOKEN.finditer(text):
            if match.lastgroup != "space":
                self._tokens.append((match.lastgroup or "", match[0], line))
            line += match[0].count("\n")
        self._tokens.append(("end", "", line))

    def read(self) -> dict[Place, int]:
        table: Place = ()
        lists: Counter[Place] = Counter()
        while (token := self._tokens[self._next])[0] != "end":
            if token[0] == "newline":
                self._next += 1
            elif token[1] == "[":
                table = self._header(lists)
            else:
                self._setting(table)
        return self._lines

    def _header(self, lists: Counter[Place]) -> Place:
        """Read [a.b] or [[a.b]]; a name that is a list of tables means the last of them."""
        line = self._tokens[self._next][2]
        of_list = self._tokens[self._next + 1][1] == "["
        self._next += 1 + of_list
        place: Place = ()
        names = self._names("]")
        for depth, name in enumerate(names, start=1):
            place = (*place, name)
            self._lines.setdefault(place, line)
            if of_list and depth == len(names):
                lists[place] += 1
            if lists[place]:
                place = (*place, lists[place] - 1)
        self._next += of_list  # the second bracket
        self._lines.setdefault(place, line)
        return place

    def _setting(self, table: Place) -> None:
        place = table
        line = self._tokens[self._next][2]
        for name in self._names("="):
            place = (*place, name)
            self._lines.setdefault(place, line)
        self._value(place)

    def _names(self, end: str) -> list[str]:
        """Read the words of a key up to and with the mark `end`."""
        names = []
        while (token := self._tokens[self._next])[1] != end:
            if token[0] == "word":
                names.append(tomllib.loads(f"key = {token[1]}")["key"] if token[1][0] in "\"'" else token[1])
            self._next += 1
        self._next += 1
        return names

    def _value(self, place: Place) -> None:
        opening = self._tokens[self._next][1]
        if opening == "{":
            self._items(place, "}")
        elif opening == "[":
            self._items(place, "]")
        else:
            while self._tokens[self._next][0] == "word" or self._tokens[self._next][1] == ".":
                self._next += 1

    def _items(self, place: Place, end: str) -> None:
        self._next += 1
        index = 0
        while (token := self._tokens[self._next])[1] != end:
            if token[0] == "newline" or token[1] == ",":
                self._next += 1
            elif end == "}":
                self._setting(place)
            else:
                self._lines[(*place, index)] = token[2]
                self._value((*place, index))
                index += 1
        self._next += 1
