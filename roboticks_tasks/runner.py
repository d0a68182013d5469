"""The self-hosted runner's entry point: `python -m roboticks_tasks.runner`, or a call of `main()`.

Compatible with the platform's own `runner.py`: the same variables, paths, order of stages and messages; exit code 0 or
1; the log in `<ROBOTICKS_ROOT>/test-output/test-run.log`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.console import log, shown, tell_steps
from roboticks_tasks.errors import ConfigError, RoboticksError
from roboticks_tasks.events import fan_out, write_jsonl
from roboticks_tasks.lifecycle import pipeline
from roboticks_tasks.lifecycle.support.result import refuse
from roboticks_tasks.profiles import Profile, load_profile
from roboticks_tasks.reporting.ci_log import fit_for_log

PROFILE = "runner"
"""The profile that means what the platform's own runner does; ROBOTICKS_PROFILE names another one, and
ROBOTICKS_BOARD one of its boards."""

DEFAULT_ROOT = "/opt/roboticks"
"""ROBOTICKS_ROOT where nobody sets it (documented)."""


def main() -> NoReturn:
    """Run the complete test suite and end the process: 0 when it passed, 1 in every other case.

    The process ends by `os._exit`, so that no background thread, of Python bindings say, can keep the runner waiting;
    everything written is flushed before.
    """
    code = 1
    try:
        code = run()
    except BaseException as error:  # whatever it is, the runner has to end, and to say why
        said = f"Test run failed: {type(error).__name__}: {redactor_of().text(str(error))}"
        print(fit_for_log(said, os.environ), file=sys.stderr)
    finally:
        _flush()
        os._exit(code)


def run() -> int:
    """Run the complete test suite and return 0 when it passed, else 1."""
    output = Path(os.environ.get("ROBOTICKS_ROOT") or DEFAULT_ROOT) / "test-output"
    output.mkdir(parents=True, exist_ok=True)
    name = os.environ.get("ROBOTICKS_PROFILE") or PROFILE
    board = os.environ.get("ROBOTICKS_BOARD") or None
    profile = _load(name)
    redactor = redactor_of(profile if isinstance(profile, Profile) else None)
    with shown(output / "test-run.log", redactor=redactor) as live:
        sink = fan_out([tell_steps, write_jsonl(output / "events.jsonl"), *([live] if live else [])])
        try:
            if not isinstance(profile, Profile):
                raise profile
            result = pipeline.main(profile, artifacts=output, board=board, sink=sink)
        except RoboticksError as error:
            refuse(name, output, error)  # the folder is the same for every run: an earlier one's result is there
            log.error("Test run failed: %s", error)
            return 1
        log.info("%s: %s", result.verdict, result.reason)
    return 0 if result.exit_code == 0 else 1


def _load(name: str) -> Profile | ConfigError:
    """Return the profile, or why there is none: that belongs into the log, which the profile's secrets must not."""
    try:
        return load_profile(name)
    except ConfigError as error:
        return error


def _flush() -> None:
    logging.shutdown()
    if "coverage" in sys.modules:
        _save_coverage()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _save_coverage() -> None:
    """Keep what a running coverage measurement has seen: it saves at exit, and `os._exit` skips that."""
    from importlib import import_module

    current = import_module("coverage").Coverage.current()
    if current is not None:
        current.stop()
        current.save()


if __name__ == "__main__":
    main()
