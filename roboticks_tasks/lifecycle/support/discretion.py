"""What devices and tools said is made fit for everybody's eyes before it is kept: values, and files of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from roboticks_tasks.disk import write_atomically
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Composition, Deployment, Dsn, Session, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.state import RunState

T = TypeVar("T", bound=msgspec.Struct)

SPOKEN: dict[type[msgspec.Struct], tuple[str, ...]] = {
    RunState: ("steps", "dsn", "session", "deployment", "teardown"),
    StepResult: ("error",),
    Dsn: ("value",),
    Session: ("id", "dsn"),
    Deployment: ("mode", "compositions"),
    Composition: ("name", "mode", "status", "error"),
    TeardownReport: ("parts",),
    TeardownPart: ("detail",),
}
"""The fields that hold what somebody else said. Paths, names of boards and the like are ours, and are still needed."""


def public(value: T, redactor: Redactor) -> T:
    """Return `value` with the secrets redacted in what devices and tools said."""
    changes = {name: _public(getattr(value, name), redactor) for name in SPOKEN.get(type(value), ())}
    return msgspec.structs.replace(value, **changes) if changes else value


def redact_file(path: Path, redactor: Redactor) -> None:
    """Redact a file of text that others have written, if there is one; it is replaced as a whole.

    Raises OSError when that cannot be done; the file is gone then.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    if redactor.finds(content):
        try:
            write_atomically(path, redactor.bytes(content))
        except ConfigError as error:
            path.unlink()  # better none than one that tells a secret
            raise OSError(f"{path.name} could not be redacted: {error}") from error


def _public(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, tuple):
        return tuple(_public(each, redactor) for each in value)
    return public(value, redactor) if isinstance(value, msgspec.Struct) else value
