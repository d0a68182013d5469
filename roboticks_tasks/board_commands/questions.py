"""Questions to the person at the terminal."""

from __future__ import annotations


def ask(question: str, default: str) -> str:
    """Return the answer, or the default for Enter and for an input that has ended."""
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:
        return default
