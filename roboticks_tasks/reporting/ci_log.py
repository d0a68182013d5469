"""The log of a CI system: lines of ours that its runner obeys, and lines of others that it must not."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

from roboticks_tasks.reporting.words import disarmed, harmless


def is_github(environ: Mapping[str, str]) -> bool:
    """Tell whether a GitHub runner reads what we print."""
    return environ.get("GITHUB_ACTIONS") == "true"


def fit_for_log(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` without what the runner of this very CI system would obey; as it is on a terminal."""
    return disarmed(text) if is_github(environ) or environ.get("TF_BUILD") else text


@contextmanager
def folded(title: str, environ: Mapping[str, str], stream: TextIO | None = None) -> Iterator[None]:
    """Have what is written to `stream` (stderr) within the block fold under `title` in the log of GitHub or GitLab."""
    stream = stream or sys.stderr
    title = disarmed(harmless(title))
    begin = end = ""
    if is_github(environ):
        begin, end = f"::group::{data_text(title)}\n", "::endgroup::\n"
    elif environ.get("GITLAB_CI"):
        name, now = f"roboticks_{secrets.token_hex(4)}", int(time.time())
        begin = f"\x1b[0Ksection_start:{now}:{name}[collapsed=true]\r\x1b[0K{title}\n"
        end = f"\x1b[0Ksection_end:{now}:{name}\r\x1b[0K\n"
    _print(stream, begin)
    try:
        yield
    finally:
        _print(stream, end)


@contextmanager
def disobeyed(environ: Mapping[str, str]) -> Iterator[None]:
    """Have a GitHub runner obey nothing that is written to our stdout within the block: it is the tests' own.

    They do not know the word that ends it. What annotations they would make are ours to make, of the JUnit file.
    """
    word = secrets.token_hex(16)
    begin, end = (f"::stop-commands::{word}\n", f"\n::{word}::\n") if is_github(environ) else ("", "")
    _write_raw(begin)
    try:
        yield
    finally:
        _write_raw(end)


def data_text(text: str) -> str:
    """Return `text` as the message of a GitHub command."""
    return re.sub(r"[%\r\n]", _escaped, text)


def property_text(text: str) -> str:
    """Return `text` as a property of a GitHub command."""
    return re.sub(r"[%\r\n:,]", _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _print(stream: TextIO, text: str) -> None:
    if text:
        with suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


def _write_raw(text: str) -> None:
    """Write past Python's buffers, as the tests' output is."""
    if text:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            os.write(sys.stdout.fileno(), text.encode())
