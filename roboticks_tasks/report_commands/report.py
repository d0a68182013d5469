"""`report`: make a finished run's reports anew from its folder, or print what was said during one of its tests."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from roboticks_tasks import publishing, state
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, ConfigError
from roboticks_tasks.lifecycle.run import OUTPUT
from roboticks_tasks.reporting.values import Case, Finished

MOST = 2000
"""Lines of a test that are printed; the file has them all."""


def report(options: argparse.Namespace) -> int:
    """Make timeline.jsonl and report.html of a run, and print the diagnosis; with --test, what that test has seen."""
    artifacts = state.latest_folder(OUTPUT, options.profile) if options.run is None else options.run
    reports = publishing.make_reports(artifacts, environ=os.environ)
    if options.test is not None:
        _print_slice(reports, _find(reports.finished, options.test))
        return EXIT_PASSED
    say(reports.diagnosis.sentence)
    if reports.diagnosis.advice:
        say(f"  {reports.diagnosis.advice}")
    say(f"  report    {reports.page}")
    return EXIT_PASSED


def _find(finished: Finished, words: str) -> Case:
    """Return the one test whose name is, or else contains, `words`; ConfigError when none or several do."""
    found = [case for case in finished.cases if words == case.nodeid] or [
        case for case in finished.cases if words in case.nodeid
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(case.nodeid for case in (found or finished.cases)[:10])
    problem = f"{len(found)} tests are called like {words!r}" if found else f"no test is called like {words!r}"
    raise ConfigError(problem, remedy=f"name one of: {known}" if known else "the run has no tests")


def _print_slice(reports: publishing.Reports, case: Case) -> None:
    for line in reports.timeline.slice_of(case.nodeid, most=MOST):
        moment = datetime.fromtimestamp(line.at, UTC).isoformat(sep=" ", timespec="milliseconds")[:-6]
        say(f"{moment} {line.source:9} | {line.text}")
    say(f"{case.outcome}: {case.nodeid} {case.message}".rstrip())
