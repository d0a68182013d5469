"""Files that tests attached: small images in the page, the beginning of texts, links to everything else."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from roboticks_tasks.models import Attachment
from roboticks_tasks.reporting.page.text import Budget, Cut, shorten, size

MOST = 12
"""Attachments of one test that are listed."""

NAME, ROW = 120, 250
"""Characters of a name, and bytes that an attachment takes besides its name and its path."""

IMAGE = 200_000
"""Bytes of the largest image that is shown in the page."""

TEXT = 6_000
"""Bytes of a text that are shown in the page."""

OPENED = {".csv", ".gif", ".jpeg", ".jpg", ".json", ".jsonl", ".log", ".md", ".png", ".txt", ".webp"}
"""What a browser shows when a link to it is followed; all else is saved, as it might be a page with a script."""


class Attached(NamedTuple):
    """An attachment as the page has it; `href` is None where there is no such file in the run's folder."""

    name: str
    href: str | None
    is_saved: bool
    size: int
    image: str | None = None
    text: Cut | None = None


def attached(artifacts: Path, attachments: Sequence[Attachment], *, images: Budget, texts: Budget) -> list[Attached]:
    """Return the attachments of a test with as much of them as the budgets allow; those that do not fit are not in."""
    listed = []
    for each in attachments[:MOST]:
        if not texts.spend(ROW + 2 * size(shorten(each.name, NAME)) + 24 * len(each.path)):
            break
        listed.append(_attached(artifacts, each, images=images, texts=texts))
    return listed


def linked(artifacts: Path, attachments: Sequence[Attachment], *, most: int) -> list[Attached]:
    """Return the attachments of a test as links only."""
    return [_link(each, _read(artifacts, each.path, most=0)) for each in attachments[:most]]


def media_type(content: bytes) -> str | None:
    """Return the type of an image that cannot hold a script, by its first bytes, whatever it is called."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def _link(attachment: Attachment, content: bytes | None) -> Attached:
    # `./` and the quoting keep a path from being a URL of its own.
    href = None if content is None else "./" + quote(attachment.path.encode("utf-8", "surrogateescape"))
    is_saved = Path(attachment.path).suffix.lower() not in OPENED
    return Attached(shorten(attachment.name, NAME), href, is_saved, attachment.size)


def _attached(artifacts: Path, attachment: Attachment, *, images: Budget, texts: Budget) -> Attached:
    content = _read(artifacts, attachment.path, most=IMAGE + 1)
    shown = _link(attachment, content)
    kind = media_type(content or b"")
    if content is None or (kind is None and shown.is_saved):
        return shown
    if kind is None:
        part = _text(content, texts)
        return shown._replace(text=part if part.text else None)
    if len(content) <= IMAGE and images.spend(len(content) * 4 // 3 + 40):
        return shown._replace(image=f"data:{kind};base64,{base64.b64encode(content).decode()}")
    return shown


def _text(content: bytes, texts: Budget) -> Cut:
    """Return the beginning of a text; nothing of what is none."""
    try:
        text = content.decode(errors="strict" if len(content) <= TEXT else "ignore")  # a cut may go through a letter
    except UnicodeDecodeError:
        return Cut("")
    return Cut("") if "\0" in text else texts.take(text, most=TEXT, keep="start")


def _read(artifacts: Path, path: str, *, most: int) -> bytes | None:
    """Return the first bytes of a plain file in the run's folder; None for anything else, which is not linked to."""
    if "\0" in path:
        return None
    with suppress(OSError, ValueError):
        place = artifacts / path
        if not place.resolve().is_relative_to(artifacts.resolve()):
            return None
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return os.pread(handle, most, 0)
        finally:
            os.close(handle)
    return None
