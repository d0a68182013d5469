"""Foreign text for the page: made visible where it would act or hide, and cut to the bytes there are for it."""

from __future__ import annotations

import hashlib
import html
import re
from typing import Literal, NamedTuple

COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
"""What terminals take for colours, or for the end of a line: of no use here, and in every console's log."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
"""Control characters, what turns the direction of text, what has no width, halves of characters."""


def printable(text: str) -> str:
    """Return `text` with each character that would act or hide replaced by a visible name of it."""
    return HIDDEN.sub(_name, COLOURS.sub("", text.replace("\r\n", "\n")))


def _name(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def size(text: str) -> int:
    """Return how many bytes `text` takes in the page."""
    return len(html.escape(printable(text)).encode())


def anchor_of(nodeid: str) -> str:
    """Return the fragment of a test in every page there will be of it, without the `#`."""
    return "test-" + hashlib.sha256(nodeid.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def shorten(text: str, most: int) -> str:
    """Return `text` in at most `most` characters: what is too long loses its middle."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


class Cut(NamedTuple):
    """A text that fits, and how many of its characters were left out."""

    text: str
    left_out: int = 0


class Budget:
    """Bytes that may still be written; who comes first is served first."""

    def __init__(self, total: int) -> None:
        """Start with `total` bytes."""
        self.left = total

    def share(self, claimants: int, *, most: int, least: int) -> int:
        """Return what each of so many may have, so that many get some rather than few a lot."""
        return min(most, max(least, self.left // max(claimants, 1)))

    def spend(self, count: int) -> bool:
        """Take `count` bytes if they are there, and tell whether they were."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def take(self, text: str, *, most: int, keep: Literal["start", "end", "ends"]) -> Cut:
        """Return as much of `text` as `most` bytes and the budget allow, and pay for it."""
        limit = min(most, self.left)
        kept = len(text)
        if kept > limit or size(text) > limit:
            kept = min(kept, limit)
            while kept and size(_part(text, kept, keep)) > limit:
                kept = kept * 3 // 4
        part = _part(text, kept, keep)
        self.left -= size(part)
        return Cut(part, len(text) - kept)


def _part(text: str, count: int, keep: Literal["start", "end", "ends"]) -> str:
    if count >= len(text):
        return text
    if keep == "start":
        return text[:count]
    if keep == "end":
        return text[len(text) - count :]
    head = count // 4
    return text[:head] + "\n[…]\n" * bool(count) + text[len(text) - (count - head) :]
