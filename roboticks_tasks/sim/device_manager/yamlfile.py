"""Read a YAML file that a person has written: its document, or one sentence about what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE = 256 * 1024


class UnreadableError(ValueError):
    """The file holds no YAML document; the message is one sentence that begins with the file."""


def read(path: Path) -> object:
    """Return the document in `path`; UnreadableError when it cannot be read, is too large or is not YAML."""
    import yaml

    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(LARGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: cannot be read: {error}") from error
    if len(text) > LARGEST_FILE:
        raise UnreadableError(f"{path}: larger than {LARGEST_FILE // 1024} KiB")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    # PyYAML lets through what dates that do not exist (2026-13-45) and endless numbers raise.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
