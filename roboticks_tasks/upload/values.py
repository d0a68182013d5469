"""What has been sent of a run: the report of one upload, and the record in the run's folder that the next goes by."""

from __future__ import annotations

from pathlib import Path

import msgspec

from roboticks_tasks.disk import write_atomically
from roboticks_tasks.models import BackendRef, Value

RECORD = "upload.json"


class Delivered(Value, frozen=True, kw_only=True):
    """A file that the platform has: its content's digest, and how results name it there."""

    sha256: str
    uri: str


class Sent(Value, frozen=True, kw_only=True):
    """What one platform has of a run: files by their path in the run's folder, and the results' digest as sent."""

    destination: str
    files: dict[str, Delivered] = msgspec.field(default_factory=dict)
    results: str | None = None


class UploadReport(Value, frozen=True, kw_only=True):
    """How an upload went: `sent` now, `known` from before, one sentence for each of the `problems`.

    `skipped` says why nothing was to be sent. `cases` is what the platform has counted in the results.
    """

    destination: str | None = None
    sent: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    skipped: str | None = None
    cases: int | None = None

    @property
    def ok(self) -> bool:
        """Tell whether the platform has all that it was to have."""
        return not self.problems


def read_record(artifacts: Path, backend: BackendRef) -> Sent:
    """Return what this platform is known to have; nothing when the record is of another one, or damaged."""
    where = destination_of(backend)
    try:
        sent = msgspec.json.decode((artifacts / RECORD).read_bytes(), type=Sent)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Sent(destination=where)
    return sent if sent.destination == where else Sent(destination=where)


def write_record(artifacts: Path, sent: Sent) -> None:
    """Keep what the platform has, before anything else is sent; ConfigError where the folder does not take it."""
    write_atomically(artifacts / RECORD, msgspec.json.format(msgspec.json.encode(sent), indent=2) + b"\n")


def destination_of(backend: BackendRef) -> str:
    """Name a platform's project for good: a local one has another port some day, and the same folder."""
    where = backend.directory if backend.kind == "local" else backend.url
    return f"{where} {backend.organization}/{backend.project}"
