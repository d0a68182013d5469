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

from roboticks_tasks.console import log, shown, tell_steps
from roboticks_tasks.errors import RoboticksError
from roboticks_tasks.events import fan_out, write_jsonl
from roboticks_tasks.lifecycle import pipeline
from roboticks_tasks.lifecycle.support.record import refuse
from roboticks_tasks.profiles import load_profile

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
        print(f"Test run failed: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        _flush()
        os._exit(code)


def run() -> int:
    """Run the complete test suite and return 0 when it passed, else 1."""
    output = Path(os.environ.get("ROBOTICKS_ROOT") or DEFAULT_ROOT) / "test-output"
    output.mkdir(parents=True, exist_ok=True)
    with shown(output / "test-run.log") as live:
        sink = fan_out([tell_steps, write_jsonl(output / "events.jsonl"), *([live] if live else [])])
        name = os.environ.get("ROBOTICKS_PROFILE") or PROFILE
        board = os.environ.get("ROBOTICKS_BOARD") or None
        try:
            result = pipeline.main(load_profile(name), artifacts=output, board=board, sink=sink)
        except RoboticksError as error:
            refuse(name, output, error)  # the folder is the same for every run: an earlier one's result is there
            log.error("Test run failed: %s", error)
            return 1
        log.info("%s: %s", result.verdict, result.reason)
    return 0 if result.exit_code == 0 else 1


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
