"""What devices and tools said is made fit for everybody's eyes before it is kept: values, and files of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from roboticks_tasks.disk import replacing
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Composition, Deployment, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.state import RunState

T = TypeVar("T", bound=msgspec.Struct)

SPOKEN: dict[type[msgspec.Struct], tuple[str, ...]] = {
    RunState: ("steps", "deployment", "teardown"),
    StepResult: ("error", "remedy"),
    Deployment: ("compositions",),
    Composition: ("error",),
    TeardownReport: ("parts",),
    TeardownPart: ("detail",),
}
"""The fields with words for people. The others, such as paths and the DSN, are what the next step goes by."""

CHUNK = 262_144


def public(value: T, redactor: Redactor) -> T:
    """Return `value` with the secrets redacted in what devices and tools said."""
    changes = {name: _public(getattr(value, name), redactor) for name in SPOKEN.get(type(value), ())}
    return msgspec.structs.replace(value, **changes) if changes else value


def redact_file(path: Path, redactor: Redactor) -> None:
    """Redact a file of text that others have written, if there is one; it is replaced as a whole.

    Raises OSError when that cannot be done; the file is gone then.
    """
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return
    with source:
        if sum(map(len, _pieces(source, redactor))) == path.stat().st_size:  # what is redacted is shorter
            return
        source.seek(0)
        try:
            with replacing(path) as copy:
                copy.writelines(_pieces(source, redactor))
        except ConfigError as error:
            path.unlink()  # better none than one that tells a secret
            raise OSError(f"{path.name} could not be redacted: {error}") from error


def _pieces(source: BinaryIO, redactor: Redactor) -> Iterator[bytes]:
    """Yield what is in `source`, redacted, with little of it in memory."""
    stream = redactor.stream()
    while data := source.read(CHUNK):
        yield stream.feed(data)
    yield stream.close()


def _public(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, tuple):
        return tuple(_public(each, redactor) for each in value)
    return public(value, redactor) if isinstance(value, msgspec.Struct) else value
