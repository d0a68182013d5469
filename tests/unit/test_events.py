"""Events reach everyone who wants them, and nobody who takes them can break a run."""

from __future__ import annotations

import json
from pathlib import Path

from roboticks_tasks.events import Event, RunStarted, StepFinished, fan_out, write_jsonl


def test_a_sink_that_raises_keeps_nobody_else_from_the_news() -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise OSError("the terminal is gone")

    event = RunStarted(run_id="r", profile="sim")
    fan_out([broken, seen.append])(event)
    assert seen == [event]


def test_each_event_is_one_line_that_names_its_kind(tmp_path: Path) -> None:
    sink = write_jsonl(tmp_path / "events.jsonl")
    sink(RunStarted(run_id="r", profile="sim"))
    sink(StepFinished(name="deploy", outcome="failed", duration=0.5, error="two\nlines"))
    first, second = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (first["event"], first["run_id"]) == ("run-started", "r")
    assert (second["event"], second["name"], second["error"]) == ("step-finished", "deploy", "two\nlines")


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "gone" / "events.jsonl")(RunStarted(run_id="r", profile="sim"))
