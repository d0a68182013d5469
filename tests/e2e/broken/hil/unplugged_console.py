"""A console that somebody pulls out under a test, which asks for that by a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_the_board_says_something(console: Any) -> None:
    Path("pull").touch()

    console.expect("a word that never comes", timeout=4)
