"""What a console shows to somebody who presses keys, and when it is a prompt."""

from __future__ import annotations

import re

from roboticks_tasks.serial_console.line import Line
from roboticks_tasks.waiting import Deadline

SETTLED = 0.15
"""Seconds of silence after which a prompt is one: "Last login: " is none."""

FOREIGN = re.compile(r"^(?:\S*=> ?|U-Boot[^>]*> ?|grub(?: rescue)?> ?|>>> ?|uart:~\$ ?)$")
"""Prompts of what is no shell: U-Boot, GRUB, Python, Zephyr."""

PROMPT = re.compile(r"[#$%>] ?$")
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")


class Dialogue:
    """What a console has shown since the last key was pressed."""

    def __init__(self, line: Line, *patterns: str) -> None:
        self._line = line
        self._prompts = [*map(re.compile, patterns), FOREIGN, PROMPT]
        self.seen = b""
        self.last_words = ""
        self._recent = b""

    @property
    def last_line(self) -> str:
        """Return the line that the cursor is in, without colours."""
        return self._text().rpartition("\n")[2].rpartition("\r")[2]

    def press(self, keys: bytes) -> None:
        """Send keys, and forget what was before."""
        self.seen = b""
        self._line.write(keys)

    def listen(self, timeout: float) -> bool:
        """Take what comes; tell whether anything did."""
        data = self._line.read(timeout)
        self.seen = (self.seen + data)[-16384:]
        self._recent = (self._recent + data)[-256:]
        if data and (lines := [each for each in self._text().split("\n") if each.strip()]):
            self.last_words = lines[-1].strip()[-100:]
        return bool(data)

    def await_prompt(self, pause: float, deadline: Deadline) -> str:
        """Return the line with the cursor, once it has stood still: a prompt for a moment, another for `pause`."""
        quiet = Deadline(pause)
        while True:
            prompt = self.last_line
            if self.listen(min(SETTLED, deadline.remaining)):
                quiet = Deadline(pause)
            elif quiet.expired or deadline.expired or any(each.search(prompt) for each in self._prompts):
                return prompt

    @property
    def unreadable(self) -> str:
        """Return the last of what came, in hexadecimal, when a quarter of it is no text; else ""."""
        text = ESCAPES.sub(b"", self._recent).decode("utf-8", "replace")
        strange = sum(letter == "\ufffd" or not (letter.isprintable() or letter in "\r\n\t\b\a") for letter in text)
        return self._recent[-8:].hex(" ") if strange * 4 > len(text) else ""

    def _text(self) -> str:
        return ESCAPES.sub(b"", self.seen).decode("utf-8", "replace")
