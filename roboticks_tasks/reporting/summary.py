"""A finished run in a few lines of text, for a terminal or a CI log: who is to blame comes first."""

from __future__ import annotations

import shlex
from pathlib import Path

from roboticks_tasks.errors import Verdict
from roboticks_tasks.models import RunResult


def summarise(result: RunResult, artifacts: Path) -> str:
    """Return the verdict with the diagnosis, what to do next, what ran on the device, and where everything is."""
    sentence = result.diagnosis or result.reason
    lines = [f"{result.verdict}: {sentence}"]
    if result.verdict == Verdict.PASSED and result.reason not in sentence:  # a report that was not written
        lines.append(f"  reason    {result.reason}")
    if result.advice:
        lines.append(f"  next      {result.advice}")
    if result.dsn:
        session = f", session {result.session_id}" if result.session_id else ""
        lines.append(f"  device    {result.dsn}{session}")
    if result.compositions:
        lines.append("  running   " + ", ".join(f"{each.name} ({each.mode})" for each in result.compositions))
    if result.tests:
        counts = result.tests
        lines.append(
            f"  tests     {counts.passed} passed, {counts.failed} failed, {counts.errors} errors, "
            f"{counts.skipped} skipped"
        )
    lines.append("  time      " + ", ".join(f"{step.name} {step.duration:.2f}" for step in result.steps) + " s")
    lines.append(f"  folder    {artifacts}")
    if result.diagnosis:
        lines.append(f"  report    {artifacts / 'report.html'}")
    if result.kept_until:
        teardown = f"roboticks-tasks teardown --profile {result.profile} --artifacts {shlex.quote(str(artifacts))}"
        lines.append(f"  kept      until {result.kept_until}, to be looked at; `{teardown}` ends it before")
    return "\n".join(lines)
