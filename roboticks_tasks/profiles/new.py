"""Make a profile out of a shipped one: its comments stay, its values are replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from roboticks_tasks.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What may name a profile, its file and its only board."""

HEADER = re.compile(r"(?:# )?(?P<header>\[+(?P<table>[\w.]+)\]+)(?: +(?P<comment># .*))?")
SETTING = re.compile(r"(?:# )?(?P<key>\w+) = .*?(?:  (?P<comment># .*))?")
"""Lines of a template; one that begins with # is an example, and becomes a setting when it is given a value."""

COLUMN = 48
"""Where the comments behind values begin, if these leave room."""

TomlValue = str | int | Sequence[str] | Mapping[str, str]


def check_name(name: str) -> None:
    """Raise ConfigError for a name that a profile's file cannot have."""
    if NAME.fullmatch(name) is None or name.endswith(".toml"):
        raise ConfigError(
            f"{name!r} cannot name a profile", remedy="use letters, digits, dots, - and _; the .toml is added to it"
        )


def fill(template: str, values: Mapping[str, TomlValue]) -> str:
    """Return the template with `values`, by dotted keys like boards.console.port, in the place of its own.

    Of a list of tables the first is meant. An example that gets a value is no longer commented out, nor is the header
    of its table. Raises ConfigError for a key that the template has no line for.
    """
    wanted = dict(values)
    opened = {key.rpartition(".")[0] for key in values}
    lines = []
    table = ""
    for line in template.split("\n"):
        if match := HEADER.fullmatch(line):
            table = match["table"]
            if table in opened:
                line = _commented(match["header"], match["comment"])  # noqa: PLW2901 - the line as it is from now on
                opened.remove(table)
        elif match := SETTING.fullmatch(line):
            key = f"{table}.{match['key']}".lstrip(".")
            if key in wanted:
                setting = f"{match['key']} = {toml(wanted.pop(key))}"
                line = _commented(setting, match["comment"])  # noqa: PLW2901 - likewise
        lines.append(line)
    if wanted:
        raise ConfigError(f"a profile of this kind has no {' and no '.join(f'`{key}`' for key in wanted)}")
    return "\n".join(lines)


def toml(value: TomlValue) -> str:
    """Return the value as TOML on one line; ConfigError for text that no UTF-8 file can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{value!r} is not UTF-8") from error
        # JSON writes strings as TOML does, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
    return f"[{', '.join(toml(each) for each in value)}]"


def _commented(text: str, comment: str | None) -> str:
    return f"{text:<{COLUMN}}  {comment}" if comment else text
