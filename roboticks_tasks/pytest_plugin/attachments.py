"""Files that belong to a test: kept in the run's folder, told to whoever reports by a property of the test."""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from roboticks_tasks.bench import file_name
from roboticks_tasks.disk import not_writable, replacing
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Attachment
from roboticks_tasks.redaction import Redactor

FOLDER = "attachments"

PROPERTY = "roboticks.attach.attachments"
"""The platform's name for it; its value is the path relative to the run's folder."""

MOST = 64 * 1024 * 1024
"""Bytes of one attachment."""

MOST_OF_TEST = 4 * MOST
"""Bytes of all attachments of a test."""

LONGEST = 100
"""Characters of a file's name."""

CHUNK = 262_144


class Attachments:
    """The attachments of one test; `tell` makes a property of it."""

    def __init__(self, run: Path, nodeid: str, *, redactor: Redactor, tell: Callable[[str, str], None]) -> None:
        self._run = run
        self._folder = run / FOLDER / file_name(nodeid)
        self._redactor = redactor
        self._tell = tell
        self._room = MOST_OF_TEST

    def attach(self, content: Path | bytes | str, name: str | None = None, media_type: str | None = None) -> Attachment:
        """Keep bytes, text, or a copy of the file that a Path names; what the run knows as secret is taken out.

        `name` is made harmless, gets a number when it is taken and, where `media_type` says something else than its
        suffix, another suffix. ConfigError when there is no such file, when it is too large, or cannot be written.
        """
        name = name or (content.name if isinstance(content, Path) else "text.txt" if isinstance(content, str) else "")
        path = self._reserve(safe_name(name or "data.bin", media_type))
        try:
            with replacing(path) as copy:
                size = 0
                for piece in self._pieces(content):
                    size += copy.write(piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._room -= size
        inside = path.relative_to(self._run).as_posix()
        self._tell(PROPERTY, inside)
        return Attachment(name=path.name, path=inside, media_type=media_type or _type_of(path.name), size=size)

    def _reserve(self, name: str) -> Path:
        """Make an empty file under the first name that is free; of several processes each gets another one."""
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
        number = 1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = self._folder / (name if number == 1 else f"{stem}-{number}{suffix}")
                try:
                    path.open("xb").close()
                except FileExistsError:
                    number += 1
                else:
                    return path
        except OSError as error:
            raise not_writable(self._run, error) from error

    def _pieces(self, content: Path | bytes | str) -> Iterator[bytes]:
        stream = self._redactor.stream()
        limit = min(MOST, self._room)
        size = 0
        for piece in _read(content):
            size += len(piece)
            if size > limit:
                raise ConfigError(
                    f"an attachment has more than {limit} bytes"
                    + ("" if limit == MOST else f", which is what is left of {MOST_OF_TEST} for this test"),
                    remedy="attach the part that matters",
                )
            yield stream.feed(piece)
        yield stream.close()


def safe_name(name: str, media_type: str | None = None) -> str:
    """Return a file name of letters, digits and `._-` that is no hidden file, with a suffix for `media_type`."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    stem, own = (re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in os.path.splitext(last))  # noqa: PTH122
    plain = (stem.strip("-.") or "attachment") + own.rstrip(".")
    if media_type and _type_of(plain) != media_type:
        own += mimetypes.guess_extension(media_type) or ""
    own = own.rstrip(".")[-LONGEST // 4 :]
    return (stem.strip("-.") or "attachment")[: LONGEST - len(own)] + own


def _type_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _read(content: Path | bytes | str) -> Iterator[bytes]:
    if isinstance(content, str | bytes):
        yield content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        return
    if not content.is_file():  # a pipe would be waited for
        raise ConfigError(f"{content} cannot be attached: there is no such file")
    try:
        with content.open("rb") as stream:
            while piece := stream.read(CHUNK):
                yield piece
    except OSError as error:
        raise ConfigError(f"{content} cannot be attached: {error.strerror}") from error
