"""`history`: what the runs of this machine tell together: slow steps, flaky tests, flaky boards."""

from __future__ import annotations

import argparse
import os
import shutil

import msgspec

from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, ConfigError
from roboticks_tasks.history import History, location
from roboticks_tasks.history.rows import Window
from roboticks_tasks.reporting.words import count

IMPORTED = "imported"
"""The profile of imported runs, where nobody names one."""


def history(options: argparse.Namespace) -> int:
    """Print the history, write its page, import into it or prune it."""
    if (options.board or options.commit) and not options.imported:
        raise ConfigError("--board and --commit are those of imported files", remedy="name the files with --import")
    with History.open(location(os.environ)) as opened:
        if options.imported:
            _import(opened, options)
        if options.prune is not None:
            say(f"{count(opened.prune(options.prune), 'run')} forgotten: begun more than {options.prune:g} days ago")
        if not options.imported and options.prune is None:
            _show(opened, options)
    return EXIT_PASSED


def _import(opened: History, options: argparse.Namespace) -> None:
    from roboticks_tasks.history.importing import import_junit

    files = options.imported
    profile = options.profile or IMPORTED
    tests = import_junit(opened, files, profile=profile, board=options.board, commit=options.commit)
    say(f"{count(len(files), 'run')} with {count(tests, 'test')} imported into {opened.path}")


def _show(opened: History, options: argparse.Namespace) -> None:
    from roboticks_tasks.history.report import look
    from roboticks_tasks.history.wording import describe

    since = options.since.timestamp() if options.since else None
    looked = look(opened, Window(options.profile, since, options.last))
    if options.html:
        from roboticks_tasks.history.page import write_page

        write_page(options.html, looked)
    if options.json:
        say(msgspec.json.format(msgspec.json.encode(looked.report)).decode())
    elif options.html:
        say(f"{count(looked.report.runs, 'run')} in {options.html}")
    else:
        say(describe(looked.report, width=max(shutil.get_terminal_size((120, 24)).columns, 60)))
