"""One upload: files and results on their way, each noted in the run's folder once the platform has it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from roboticks_tasks import state
from roboticks_tasks.errors import BackendError, RoboticksError
from roboticks_tasks.models import BackendRef
from roboticks_tasks.upload.files import (
    LARGEST_FILE,
    LARGEST_RESULTS,
    MOST_FILES,
    RESULTS,
    RunFile,
    files_of,
    open_file,
)
from roboticks_tasks.upload.form import Form, Slice, digest_of, length_of
from roboticks_tasks.upload.introduction import credential, metadata
from roboticks_tasks.upload.references import Uploaded, rewritten
from roboticks_tasks.upload.sending import RefusedError, Sender
from roboticks_tasks.upload.values import Delivered, Sent, UploadReport, read_record, write_record
from roboticks_tasks.waiting import Deadline

RESERVE = 5.0
"""Seconds, or a third of what there is, that files leave for the results: those are worth more than all files."""


class Upload:
    """One upload: what it has sent, what was there, and what went wrong."""

    def __init__(
        self, artifacts: Path, run: state.RunState, there: BackendRef, *, environ: Mapping[str, str], deadline: Deadline
    ) -> None:
        self._artifacts, self._run, self._there = artifacts, run, there
        self._environ, self._deadline = environ, deadline
        self._sender = Sender(credential(there, environ))
        self._base = f"{there.url}/api/v1/organizations/{there.organization}/projects/{there.project}"
        self._record = read_record(artifacts, there)
        self._sent: list[str] = []
        self._known: list[str] = []
        self._problems: list[str] = []
        self._cases: int | None = None

    def go(self, files: list[RunFile]) -> None:
        """Send files, then results; what is wrong with one keeps none of the others, but for a key that is refused."""
        limit = Deadline(max(0.0, self._deadline.remaining - min(RESERVE, self._deadline.seconds / 3)))
        if len(files) > MOST_FILES:
            self._problems.append(f"only {MOST_FILES} of {len(files)} files are sent")
        try:
            for file in files[:MOST_FILES]:
                self._attempt(partial(self._file, file, limit))
            self._attempt(self._results)
        except RefusedError as error:
            self._problems.append(str(error))

    def report(self) -> UploadReport:
        """Return what became of it."""
        return UploadReport(
            destination=f"{self._there.url} ({self._there.organization}/{self._there.project})",
            sent=tuple(self._sent),
            known=tuple(self._known),
            problems=tuple(self._problems),
            cases=self._cases,
        )

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RefusedError:
            raise
        except RoboticksError as error:
            self._problems.append(str(error))
        except OSError as error:
            self._problems.append(f"{error.filename or 'a file of the run'} could not be read: {error.strerror}")

    def _file(self, file: RunFile, limit: Deadline) -> None:
        with open_file(self._artifacts, file.path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_FILE:
                raise BackendError(f"{file.path} was not sent: it has {size} bytes, at most {LARGEST_FILE} are sent")
            pieces = [Slice(0, size)]
            digest = digest_of(stream, pieces)
            before = self._record.files.get(file.path)
            if before is not None and before.sha256 == digest:
                self._known.append(file.path)
                return
            name = Path(file.path).name
            place = self._address(file, size, limit)

            def form() -> Form:
                fields = place["fields"]
                return Form(
                    fields, stream, pieces, field="file", filename=name, media_type=file.media_type, deadline=limit
                )

            self._sender.store(place["url"], form, file.path, deadline=limit)
        files = {**self._record.files, file.path: Delivered(sha256=digest, uri=place["s3_uri"])}
        self._keep(msgspec.structs.replace(self._record, files=files))
        self._sent.append(file.path)

    def _address(self, file: RunFile, size: int, limit: Deadline) -> dict[str, Any]:
        """Ask where one file is to go: at once, because a signature for the last of many may be too old by then."""
        wanted = {"filename": Path(file.path).name, "size_bytes": size, "content_type": file.media_type}
        url = f"{self._base}/ingest/mcap-upload-urls"
        answer = self._sender.ask(url, {"files": [wanted]}, file.path, deadline=limit)
        try:
            place = answer["uploads"][0]
            fields = {str(key): str(value) for key, value in place["fields"].items()}
            return {"url": str(place["url"]), "fields": fields, "s3_uri": str(place["s3_uri"])}
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise BackendError(f"{file.path} was not sent: the platform's answer names no address for it") from error

    def _results(self) -> None:
        with open_file(self._artifacts, RESULTS) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_RESULTS:
                raise BackendError(f"{RESULTS} was not sent: it has {size} bytes, at most {LARGEST_RESULTS} are sent")
            kinds = {each.path: each.kind for each in files_of(self._artifacts)}
            uploaded = {
                path: Uploaded(kinds.get(path, "attachments"), each.uri) for path, each in self._record.files.items()
            }
            pieces = rewritten(stream, size, uploaded, self._artifacts.absolute())
            digest = digest_of(stream, pieces)
            if self._record.results == digest:
                self._known.append(RESULTS)
                return
            if length_of(pieces) > LARGEST_RESULTS:
                pieces = [Slice(0, size)]
            fields = {"metadata": json.dumps(metadata(self._run, self._environ))}

            def form() -> Form:
                return Form(
                    fields,
                    stream,
                    pieces,
                    field="junit",
                    filename=RESULTS,
                    media_type="application/xml",
                    deadline=self._deadline,
                )

            answer = self._sender.deliver(f"{self._base}/ingest/junit", form, RESULTS, deadline=self._deadline)
        self._keep(msgspec.structs.replace(self._record, results=digest))
        cases = answer.get("cases_ingested")
        self._cases = cases if isinstance(cases, int) else None
        self._sent.append(RESULTS)

    def _keep(self, record: Sent) -> None:
        self._record = record
        write_record(self._artifacts, record)
