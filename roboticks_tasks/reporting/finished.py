"""A finished run is read from its folder: once, whole, and whatever else is damaged there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from roboticks_tasks import state
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import AnyEvent, RunStarted, read_events
from roboticks_tasks.models import RunResult
from roboticks_tasks.reporting.cases import read_all
from roboticks_tasks.reporting.values import Finished

EVENTS = "events.jsonl"


def read_run(artifacts: Path) -> Finished:
    """Return the run in the folder `artifacts`; ConfigError when there is none, or it has no result that can be read.

    Of damaged files what can be read is there, and `problems` says the rest.
    """
    result = _read_result(artifacts)
    run, problems = None, []
    try:
        run = state.load(artifacts)
    except state.NoRunError:
        pass  # it was refused, and began nothing
    except ConfigError as error:
        problems.append(error.args[0])
    reading = read_all(artifacts)
    if reading.problem is not None:
        problems.append(reading.problem)
    return Finished(
        result=result,
        state=run if run is not None and run.run_id == result.run_id else None,
        events=tuple(_own(read_events(artifacts / EVENTS), result.run_id)),
        cases=tuple(reading.cases),
        problems=tuple(problems),
    )


def _read_result(artifacts: Path) -> RunResult:
    path = artifacts / state.RESULT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunResult)
    except OSError as error:
        if (artifacts / state.STATE_FILE).is_file():
            raise ConfigError(
                f"the run in {artifacts} has no result yet: {path.name}: {error.strerror}",
                remedy="wait for its end, or end it with `roboticks-tasks teardown`",
            ) from error
        raise state.NoRunError(
            f"{artifacts} is not the folder of a run: {path.name}: {error.strerror}",
            remedy="name one below test-output/ with --artifacts",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged or of another version: {error}", remedy="run the tests again") from error


def _own(events: list[AnyEvent], run_id: str) -> list[AnyEvent]:
    """Return the events from the run's beginning on: a folder that is used again keeps those of earlier runs."""
    with suppress(StopIteration):
        first = next(
            number for number, event in enumerate(events) if isinstance(event, RunStarted) and event.run_id == run_id
        )
        rest = events[first:]
        later = (number for number, event in enumerate(rest) if number and isinstance(event, RunStarted))
        return rest[: next(later, len(rest))]
    return []
