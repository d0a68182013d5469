"""`--profile` for `--roboticks-profile`: short names of our options, which others may want for their own.

They are no options themselves: pytest ends in a traceback when a plugin that comes later, pytest-profiling say, or a
conftest.py has an option of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

SHORT = ("--profile", "--board", "--destructive")

PREFIX = "--roboticks-"


def offer(parser: pytest.Parser) -> None:
    """Let each short name stand for the long one, if nobody has an option of that name when words are parsed."""
    for name, parse in (("parse", _parse), ("parse_known_and_unknown_args", _parse_known)):
        setattr(parser, name, partial(parse, parser, getattr(parser, name)))


def _parse(parser: pytest.Parser, parse: Callable[..., T], args: Sequence[Any], *others: Any, **named: Any) -> T:
    return parse(list(_translated(args, _ours(parser))), *others, **named)


def _parse_known(parser: pytest.Parser, parse: Callable[..., T], args: Sequence[Any], *others: Any, **named: Any) -> T:
    try:
        return _parse(parser, parse, args, *others, **named)
    except pytest.UsageError:  # a conftest.py that comes yet may have an option that has no value, say
        return parse(args, *others, **named)


def _ours(parser: pytest.Parser) -> set[str]:
    groups = (*parser._groups, parser._anonymous)
    return set(SHORT).difference(*(option.names() for group in groups for option in group.options))


def _translated(words: Sequence[Any], short: set[str]) -> Iterator[Any]:
    options = len(list(takewhile(lambda word: word != "--", words)))
    for word in words[:options]:
        is_ours = str(word).partition("=")[0] in short
        yield PREFIX + str(word).removeprefix("--") if is_ours else word
    yield from words[options:]
