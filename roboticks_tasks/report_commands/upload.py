"""`upload`: send a run's results and files to the platform, or the rest of them."""

from __future__ import annotations

import argparse
import os

import msgspec

from roboticks_tasks import signals, state
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, EXIT_REPORT_NOT_WRITTEN
from roboticks_tasks.lifecycle.run import OUTPUT
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.upload import UploadReport, upload_run
from roboticks_tasks.waiting import Deadline

PATIENCE = 3600.0
"""Seconds for all: whoever asks for it waits for it, and ends it with Ctrl-C."""


def upload(options: argparse.Namespace) -> int:
    """Send what the platform does not have yet; 0 when it has all, however often it is called."""
    profile = load_profile(options.profile)
    artifacts = options.run or state.latest_folder(OUTPUT, profile.name)
    run = state.load(artifacts, profile.name)
    profile = state.as_in_run(profile, run)
    with signals.handled() as interruption, interruption.raising():
        report = upload_run(
            artifacts, profile, backend=run.backend, environ=os.environ, deadline=Deadline(PATIENCE), asked=True
        )
    if options.json:
        say(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        for line in lines_of(report):
            say(line)
    return EXIT_PASSED if report.ok else EXIT_REPORT_NOT_WRITTEN


def lines_of(report: UploadReport) -> list[str]:
    """Return a report for people."""
    lines = [f"not sent: {problem}" for problem in report.problems]
    if report.skipped is not None:
        return [*lines, f"nothing was sent: {report.skipped}"]
    for word, names in (("sent", report.sent), ("there already", report.known)):
        if names:
            lines.append(f"{word}: {', '.join(names)}")
    if report.destination is not None:
        cases = f", {report.cases} tests" if report.cases is not None else ""
        lines.append(f"platform: {report.destination}{cases}")
    return lines
