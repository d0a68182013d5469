"""What the world looks like after a run: who is left, who holds the board, what has been lost."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from roboticks_tasks.models import RunResult
from roboticks_tasks.state import RunState
from tests.faults.benches import TESTS, Site
from tests.faults.harness import Fault, Inflicted, counts, read_json
from tests.faults.moments import read_events

MARGIN = 1.0
"""Seconds: what a module has said just before its device manager was killed may be in the pipe between them."""


def left_behind(site: Site) -> list[str]:
    """Return what is not as it was before the run: processes, and locks on the board."""
    ours = os.getpid()
    found = [
        f"process {pid}: {words.strip()[:160]}"
        for pid, words in site.bench.running().items()
        if pid != ours and not words.startswith("sshd") and "/sshd -D" not in words and "mount -t tmpfs" not in words
    ]
    locks = [site.root / "run" / "lease", *(site.bench.folder / "bench").glob("*")]
    found += [f"lease {path.name}" for path in locks if is_locked(path)]
    return found + [f"user of the platform {path.name}" for path in (site.platform / "users").glob("*")]


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock of a file."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def await_safe(site: Site, patience: float) -> list[str]:
    """Return what is still left behind after `patience` seconds at most."""
    deadline = time.monotonic() + patience
    while (left := left_behind(site)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def lost(site: Site, fault: Fault, before: Inflicted) -> Iterator[str]:
    """Yield what was recorded before the fault and is not any more."""
    state, result = read_json(site.run / "run.json"), read_json(site.run / "result.json")
    for name, known in (("run.json", state), ("result.json", result)):
        names = {step["name"] for step in known.get("steps", ()) if step["outcome"] == "ok"}
        if known and (gone := [step for step in before.steps if step not in names]):
            yield f"{name} does not know of {', '.join(gone)}"
    if before.steps and not state:
        yield "run.json"
    yield from _lost_words(site, fault, before)
    if not fault.costs & {"log", "session"} and (missing := _said(site, fault, before) - set(_delivered(site))):
        yield f"{len(missing)} lines of the module are not at the platform"
    if "tests" not in fault.costs:
        yield from _lost_tests(site)


def _lost_words(site: Site, fault: Fault, before: Inflicted) -> Iterator[str]:
    said = _said(site, fault, before)
    on_board, kept = _words(site.root / "log" / "device-manager.log"), _words(site.run / "device-manager.log")
    if gone := said - on_board:
        yield f"{len(gone)} of {len(said)} lines of the module are not in the device manager's own log"
    if "copy" not in fault.costs and (gone := (said | on_board) - kept):
        yield f"{len(gone)} of {len(said | on_board)} lines of the module are not in the run's device-manager.log"


def _said(site: Site, fault: Fault, before: Inflicted) -> set[int]:
    """Return what the module had said before the fault, as far as the device manager must have heard it."""
    margin = MARGIN if "log" in fault.costs else 0.0
    return {number for number, at in counts(site) if number <= before.counted and at <= before.at - margin}


def _delivered(site: Site) -> Iterator[int]:
    for (message,) in _ask_platform(site, "SELECT message FROM logs WHERE message LIKE 'counted to %'"):
        yield int(message.removeprefix("counted to ").rstrip("."))


def _words(path: Path) -> set[int]:
    text = path.read_text(errors="replace") if path.exists() else ""
    marked = (line.partition("counted to ")[2] for line in text.splitlines())
    return {int(words.rstrip(".")) for words in marked if words.endswith(".")}


def _lost_tests(site: Site) -> Iterator[str]:
    ended = set(site.ended.read_text().split()) if site.ended.exists() else set()
    path = site.run / "results.xml"
    if not ended:
        return
    try:
        cases = {case.get("name") for case in ET.parse(path).iter("testcase")}
    except (OSError, ET.ParseError) as error:
        yield f"results.xml: {error}"
        return
    if gone := [name for name in ended if name.rpartition("::")[2] not in cases]:
        yield f"{len(gone)} of {len(ended)} tests that had ended are not in results.xml"


def wrong(site: Site, fault: Fault, before: Inflicted | None, *, code: int, errors: str, mended: bool) -> Iterator[str]:
    """Yield what a user or CI would be told wrongly: damaged files, a wrong verdict, a bug of ours."""
    try:
        begun = any(event["event"] == "run-started" for event in read_events(site.run / "events.jsonl"))
    except ValueError as error:
        yield f"events.jsonl: {error}"
        begun = True
    # A signal may come when not even Python has begun.
    if begun and ("Traceback" in errors or "this is a bug" in errors):
        [*_, last] = [line for line in errors.splitlines() if re.match(r"[\w.]+: |[\w.]*Interrupt", line)] or ["?"]
        yield f"a traceback: {last}"
    yield from _invalid_files(site)
    yield from _wrong_reports(site)
    result = read_json(site.run / "result.json")
    if not begun:
        return
    # Once the teardown has ended the verdict may be decided.
    if fault.code is not None and before and "teardown" not in before.steps and code != fault.code:
        yield f"exit code {code} instead of {fault.code}"
    if not result:
        if not fault.small_disk:
            yield "there is no result.json"
        return
    if code >= 0 and not fault.by_nox and not mended and result["exit_code"] != code:
        yield f"exit code {code}, but {result['exit_code']} in result.json"
    yield from _wrong_verdict(site, result, before)


def _invalid_files(site: Site) -> Iterator[str]:
    kinds: tuple[tuple[str, type], ...] = (("run.json", RunState), ("result.json", RunResult))
    for name, kind in kinds:
        try:
            msgspec.json.decode((site.run / name).read_bytes(), type=kind)
        except FileNotFoundError:
            continue
        except msgspec.DecodeError as error:
            yield f"{name}: {error}"
    console = site.run / "console.log"
    if console.exists() and (text := console.read_bytes()) and not text.endswith(b"\n"):
        yield "console.log ends in the middle of a line"


def _wrong_reports(site: Site) -> Iterator[str]:
    for path in site.run.glob(".*.new"):
        yield f"{path.name} is half a file"
    page = site.run / "report.html"
    if page.exists() and not page.read_text().endswith("</html>"):
        yield "report.html is not whole"
    if site.summary.exists():
        events = read_events(site.run / "events.jsonl")
        verdicts = {event["verdict"] for event in events if event["event"] == "run-finished"}
        told = site.summary.read_text().count("\n### ")
        if not 1 <= told <= max(1, len(verdicts)):  # a later teardown may have mended what the verdict was about
            yield f"the CI system was told {told} times of {len(verdicts)} verdicts"


def _wrong_verdict(site: Site, result: dict[str, Any], before: Inflicted | None) -> Iterator[str]:
    ended = site.ended.read_text().split() if site.ended.exists() else []
    if result["verdict"] == "passed" and len(ended) < TESTS:
        yield f"verdict passed, but {len(ended)} of {TESTS} tests ended"
    if result["exit_code"] == 70:
        yield f"a bug of ours: {result['reason']}"
    if before and before.result and before.result["verdict"] != result["verdict"]:
        yield f"verdict {result['verdict']}, which had been {before.result['verdict']}"
    path = site.run / "results.xml"
    try:
        ET.parse(path)
    except (OSError, ET.ParseError) as error:
        yield f"results.xml: {error}"


def active_sessions(site: Site) -> list[str]:
    """Return the sessions that the platform, which has ended, takes for active."""
    return [
        f"session {row[0]} is active" for row in _ask_platform(site, "SELECT id FROM sessions WHERE status = 'active'")
    ]


def _ask_platform(site: Site, question: str) -> list[tuple[str, ...]]:
    """Ask a copy of the platform's database."""
    path = site.platform / "platform.db"
    if not path.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        for each in path.parent.glob("platform.db*"):  # with what was not yet put into the file
            shutil.copy(each, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as database:
            return database.execute(question).fetchall()
