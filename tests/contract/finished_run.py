"""A run's folder as a finished run leaves it, small, and made without a run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from roboticks_tasks import state
from roboticks_tasks.models import Provenance, RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import LocalPlatform, Upload
from tests.contract.results import case, suite

PICTURE = "attachments/test_a/arm.png"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def remote_profile(url: str, **upload: str) -> Profile:
    """Return a profile with a remote platform."""
    return Profile(
        name="bench", backend=url, organization="local", project="local", upload=msgspec.convert(upload, Upload)
    )


def local_profile(folder: Path, **upload: str) -> Profile:
    """Return a profile with the local platform in `folder`."""
    platform = LocalPlatform(directory=str(folder), broker="builtin")
    return Profile(name="bench", backend="local", local_platform=platform, upload=msgspec.convert(upload, Upload))


def finished_run(artifacts: Path, profile: Profile, *, verdict: str = "failed", size: int = 100) -> state.RunState:
    """Write results, logs of `size` bytes and a picture that a case names; return the run's state."""
    run = state.create(artifacts, profile)
    known = Provenance(commit=COMMIT, branch="main", pull_request=7, ci="github-actions", url="https://ci/1")
    run = msgspec.structs.replace(run, provenance=known)
    state.save(artifacts, run)
    result = RunResult(
        run_id=run.run_id,
        profile=profile.name,
        verdict=verdict,
        exit_code=0 if verdict == "passed" else 1,
        reason="",
        started_at=run.started_at,
        duration=1.0,
    )
    (artifacts / state.RESULT_FILE).write_bytes(msgspec.json.encode(result))
    (artifacts / "results.xml").write_text(
        suite(case("a", attach={"attachments": PICTURE}), case("b")), encoding="utf-8"
    )
    (artifacts / "report.html").write_text("<p>ä</p>", encoding="utf-8")
    for name in ("timeline.jsonl", "device-manager.log", "console.log"):
        (artifacts / name).write_bytes((name.encode() * size)[:size])
    (artifacts / PICTURE).parent.mkdir(parents=True)
    (artifacts / PICTURE).write_bytes(b"\x89PNG")
    return run
