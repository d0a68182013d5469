"""Write report.html: page.html.j2 filled with what is said of the run, with its own style and script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from roboticks_tasks import disk
from roboticks_tasks.reporting.page import cases, logs
from roboticks_tasks.reporting.page.chart import draw
from roboticks_tasks.reporting.page.logs import Timeline
from roboticks_tasks.reporting.page.text import Budget, printable, shorten
from roboticks_tasks.reporting.page.wording import facts, seconds, size_of
from roboticks_tasks.reporting.values import Diagnosis, Finished

NAME = "report.html"

SENTENCE = 2000
"""Characters of the sentences about the run as a whole."""

FILES = (
    ("timeline.jsonl", "all that was said, on one clock"),
    ("device-manager.log", "the device manager, by the board's clock"),
    ("console.log", "the serial console"),
    ("test-run.log", "the run's own log"),
    ("pytest.log", "what pytest printed"),
    ("results.xml", "the results as JUnit has them"),
    ("tests.jsonl", "each test and its attempts"),
    ("bus.jsonl", "the modules' messages"),
    ("platform.jsonl", "what the platform has of the session"),
    ("telemetry.jsonl", "the run's telemetry"),
    ("events.jsonl", "the steps"),
    ("result.json", "the verdict, for programs"),
)
"""What is in a run's folder for people who have read the page and want to know more."""

HERE = Path(__file__).parent


def write_page(artifacts: Path, finished: Finished, diagnosis: Diagnosis, timeline: Timeline | None) -> Path:
    """Write report.html into a run's folder and return its path; ConfigError when it cannot be written.

    Its size is bounded whatever the run holds; what is left out is told, with the file that has it.
    """
    path = artifacts / NAME
    disk.write_atomically(path, render(artifacts, finished, diagnosis, timeline).encode())
    return path


def render(artifacts: Path, finished: Finished, diagnosis: Diagnosis, timeline: Timeline | None) -> str:
    """Return the page."""
    # Starting it takes longer than all that is done without it.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(seconds=seconds, size=size_of, shorten=shorten)
    style, script = _own("page.css"), _own("page.js")
    values = _values(artifacts, finished, diagnosis, timeline)
    return environment.from_string(_own("page.html.j2")).render(
        **values,
        style=Markup(style),  # noqa: S704 - our own files, of which the policy has the hashes
        script=Markup(script),  # noqa: S704
        policy=policy(style, script),
    )


def policy(style: str, script: str) -> str:
    """Return the content security policy that allows this style and this script, and images within the page."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _values(artifacts: Path, finished: Finished, diagnosis: Diagnosis, timeline: Timeline | None) -> dict[str, Any]:
    result = finished.result
    log = Budget(logs.TOTAL)
    evidence = logs.shown(diagnosis.evidence[-logs.EVIDENCE :], log, most=logs.SLICE)
    page = cases.arrange(artifacts, finished, timeline, diagnosis.evidence, log=log)
    step = logs.broken_step(finished, timeline, diagnosis.evidence, log)
    return {
        "result": result,
        "sentence": shorten(diagnosis.sentence or result.reason, SENTENCE),
        "advice": _in_commands(shorten(diagnosis.advice, SENTENCE)),
        "reason": "" if _is_told(result.reason, diagnosis.sentence) else shorten(result.reason, SENTENCE),
        "evidence": evidence,
        "facts": facts(result, diagnosis),
        "chart": draw(finished),
        "parts": result.teardown.parts[:50] if result.teardown else (),
        "page": page,
        "step": step,
        "tails": logs.tails(timeline, log),
        "line_count": timeline.lines if timeline else 0,
        "sources": logs.SOURCES,
        "files": [(name, what) for name, what in FILES if (artifacts / name).is_file()],
    }


def _is_told(reason: str, sentence: str) -> bool:
    """Tell whether the sentence has the reason in it, on one line and maybe cut."""
    return not sentence or " ".join(reason.split())[:200] in " ".join(sentence.split())


def _in_commands(text: str) -> list[str]:
    """Return a text in parts, of which every second one stood between backticks; none of them is none at all."""
    parts = text.split("`")
    return (parts if len(parts) % 2 else [text]) if text else []


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
