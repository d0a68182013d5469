"""A run as GitHub shows it: the step's summary, and annotations at the lines where tests failed."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from roboticks_tasks.reporting.ci_log import data_text, is_github, property_text
from roboticks_tasks.reporting.markdown import markdown
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished
from roboticks_tasks.reporting.words import harmless

log = logging.getLogger(__name__)

LARGEST_SUMMARY = 1024 * 1024
"""Bytes that GitHub takes of a step's summary (documented); one that is larger is not shown at all."""

CUT = "\n\n(cut: GitHub shows at most 1 MiB of a step)\n"

MOST = 10
"""Annotations of each kind that GitHub shows of a step (documented)."""

_RED, _YELLOW = "error", "warning"

MESSAGE = 2_000
"""Characters of an annotation."""


def tell_github(finished: Finished, diagnosis: Diagnosis, environ: Mapping[str, str]) -> None:
    """Append to GitHub's step summary, and print annotations; do nothing elsewhere. Never raises OSError."""
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _append(Path(summary), markdown(finished, diagnosis))
    if is_github(environ):
        workspace = Path(environ.get("GITHUB_WORKSPACE") or Path.cwd())
        lines = "".join(f"{line}\n" for line in _annotations(finished, diagnosis, workspace))
        with suppress(OSError, ValueError):  # our own stdout may be gone
            sys.stdout.write(lines)
            sys.stdout.flush()


def _append(path: Path, text: str) -> None:
    """Append to what others have written there, within what GitHub takes of all together."""
    content = text.encode("utf-8", "replace")
    try:
        with path.open("ab") as stream:
            room = LARGEST_SUMMARY - stream.seek(0, 2) - 2
            if len(content) > room:
                log.warning("the step's summary is cut: GitHub shows at most %d bytes of it", LARGEST_SUMMARY)
                content = _shortened(content, room)
            if content:
                stream.write(b"\n" + content)
    except OSError as error:
        log.warning("the step's summary could not be written: %s", error)


def _shortened(content: bytes, room: int) -> bytes:
    """Return what fits, up to the end of a line; nothing when that is next to nothing."""
    room -= len(CUT.encode())
    if room < 200:
        return b""
    kept = content[:room]
    kept = kept[: kept.rfind(b"\n") + 1] or kept.decode("utf-8", "ignore").encode()
    if kept.count(b"<details>") > kept.count(b"</details>"):
        kept = kept[: kept.rfind(b"<details>")]
    return kept + CUT.encode()


def _annotations(finished: Finished, diagnosis: Diagnosis, workspace: Path) -> Iterator[str]:
    """Yield at most `MOST` commands of each kind: the diagnosis, then the tests at the lines where they failed.

    A test is an error only where the change is to blame; one that is flaky, or that a broken bench has failed, warns.
    """
    if diagnosis.cause == "none":
        return
    title = f"{finished.result.profile}: {finished.result.verdict}"
    text = f"{diagnosis.sentence}. {diagnosis.advice}" if diagnosis.advice else diagnosis.sentence
    found: list[tuple[str, str, Case | None]] = [(_RED if finished.result.exit_code else _YELLOW, text, None)]
    kind = _RED if diagnosis.cause == "change" else _YELLOW
    for case in finished.cases:
        if case.outcome in {"failed", "error"}:
            found.append((kind, case.message or case.outcome, case))
        elif case.attempts > 1:
            found.append((_YELLOW, f"it passed only at attempt {case.attempts}", case))
    for kind in (_RED, _YELLOW):
        for _, text, one in itertools.islice((each for each in found if each[0] == kind), MOST):
            properties = {"title": title} if one is None else {**_place(one, workspace), "title": one.nodeid}
            yield _command(kind, text, properties)


def _place(case: Case, workspace: Path) -> dict[str, str]:
    """Return file and line as GitHub wants them, relative to the workspace; nothing for a file that is not in it."""
    if case.file is None or not case.file.isprintable():
        return {}
    for base in (Path.cwd(), workspace):
        with suppress(OSError, ValueError):
            path = (base / case.file).resolve()
            if path.is_file():
                relative = path.relative_to(workspace.resolve())
                return {"file": relative.as_posix(), **({"line": str(case.line)} if case.line else {})}
    return {}


def _command(kind: str, text: str, properties: Mapping[str, str]) -> str:
    words = ",".join(f"{name}={property_text(harmless(value, 300))}" for name, value in properties.items())
    return f"::{kind} {words}::{data_text(harmless(text, MESSAGE))}"
