"""What the commands of the command line do: load the profile, find the run, call the lifecycle, show the result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from roboticks_tasks import lifecycle, processes, signals, state
from roboticks_tasks.boards import lease
from roboticks_tasks.console import log, say, shown, tell_steps
from roboticks_tasks.errors import (
    EXIT_PASSED,
    EXIT_TEARDOWN_INCOMPLETE,
    EXIT_TESTS_FAILED,
    Cancelled,
    ConfigError,
    Verdict,
)
from roboticks_tasks.events import Event, RunStarted, Sink, fan_out, write_jsonl
from roboticks_tasks.lifecycle import pipeline
from roboticks_tasks.lifecycle.run import OUTPUT, need
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.models import TeardownReport
from roboticks_tasks.profiles import Profile, find_profiles, load_profile
from roboticks_tasks.profiles.schema import profile_schema
from roboticks_tasks.reporting.summary import summarise
from roboticks_tasks.targets import open_target
from roboticks_tasks.targets.detached import Detached, is_alive


def hil_test(options: argparse.Namespace) -> int:
    """Run the whole lifecycle in a run folder of its own."""
    profile = _load(options)
    artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
    with _watched(profile, artifacts) as sink:
        result = pipeline.main(profile, artifacts=artifacts, args=options.rest, sink=sink)
    say(summarise(result, artifacts))
    return result.exit_code


def run_step(options: argparse.Namespace) -> int:
    """Run one step on the run folder of the steps before; ensure-binary begins a new run."""
    profile = _load(options)
    if options.step == "ensure-binary":
        artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
        open_record = Record.begin
    else:
        artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
        profile = state.as_in_run(profile, state.load(artifacts, profile.name))
        open_record = Record.resume
    with signals.handled() as interruption, lease(profile, run=artifacts), _watched(profile, artifacts) as sink:
        record = open_record(profile, artifacts, sink=sink)
        with interruption.raising():
            return STEPS[options.step](profile, record, artifacts, options)


def run_teardown(options: argparse.Namespace) -> int:
    """Tear down a run, or whatever is left where no run is known: CI calls this whatever happened before."""
    profile = _load(options)
    try:
        artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
        profile = state.as_in_run(profile, state.load(artifacts, profile.name))
    except state.NoRunError:
        artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
        with signals.handled(), lease(profile, run=artifacts):
            return _tell_teardown(lifecycle.teardown(profile, artifacts=artifacts))
    with signals.handled(), lease(profile, run=artifacts), _watched(profile, artifacts) as sink:
        record = Record.resume(profile, artifacts, sink=sink)
        run = record.run
        report = record.step(
            lifecycle.teardown, profile, artifacts=artifacts, dm=run.dm, session=run.session, backend=run.backend
        )
        code = _tell_teardown(report)
        if _has_verdict(record.run):
            result = record.finish()
            if result.verdict != Verdict.PASSED:
                pipeline.print_dm_logs(artifacts)
            say(summarise(result, artifacts))
    return code


def _tell_teardown(report: TeardownReport) -> int:
    for part in report.parts:
        say(f"{part.name:15} {'ok' if part.ok else 'FAILED'}  {part.detail}")
    return EXIT_PASSED if report.ok else EXIT_TEARDOWN_INCOMPLETE


def _has_verdict(run: state.RunState) -> bool:
    """Tell whether there is anything to judge: a deployment that was only looked at is neither passed nor failed."""
    failed = any(step.outcome != "ok" for step in run.steps)
    return run.tests is not None or run.signal is not None or failed


def _ensure_binary(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    record.step(lifecycle.ensure_binary, profile)
    return EXIT_PASSED


def _launch_dm(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    binary = need(record.run.binary, "ensure-binary")
    backend = record.step(lifecycle.ensure_backend, profile, artifacts=artifacts)
    record.step(lifecycle.launch_dm, profile, binary, backend, artifacts=artifacts)
    return EXIT_PASSED


def _await_dsn(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    dsn = record.step(lifecycle.await_dsn, profile, need(record.run.dm, "launch-dm"))
    say(dsn.value)
    return EXIT_PASSED


def _await_session(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    run = record.run
    backend = need(run.backend, "launch-dm")
    dm, dsn = need(run.dm, "launch-dm"), need(run.dsn, "await-dsn")
    session = record.step(lifecycle.await_session, profile, dm, dsn, backend)
    say(session.id)
    return EXIT_PASSED


def _deploy(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    dm, session = need(record.run.dm, "launch-dm"), need(record.run.session, "await-session")
    deployment = record.step(lifecycle.deploy, profile, dm, session)
    for each in deployment.compositions:
        say(f"{each.name} {each.mode} {each.status}")
    return EXIT_PASSED


def _pytest_session(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    session = need(record.run.session, "await-session")
    result = record.step(
        lifecycle.pytest_session, profile, session, artifacts=artifacts, args=options.rest, dm=record.run.dm
    )
    return EXIT_PASSED if result.ok else EXIT_TESTS_FAILED


STEPS: dict[str, Callable[[Profile, Record, Path, argparse.Namespace], int]] = {
    "ensure-binary": _ensure_binary,
    "launch-dm": _launch_dm,
    "await-dsn": _await_dsn,
    "await-session": _await_session,
    "deploy": _deploy,
    "pytest-session": _pytest_session,
}


class Status(msgspec.Struct, frozen=True):
    """What `status --json` prints."""

    folder: str
    device_manager_running: bool
    local_platform_running: bool
    run: state.RunState


def show_status(options: argparse.Namespace) -> int:
    """Print what a run has done and what of it is still running."""
    profile = load_profile(options.profile)
    artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
    run = state.load(artifacts, profile.name)
    with open_target(profile) as target:
        dm = run.dm is not None and is_alive(target, Detached(run.dm.pid, run.dm.identity))
    backend = run.backend
    platform = bool(backend and backend.pid and processes.is_alive(backend.pid, backend.start_time or 0))
    status = Status(folder=str(artifacts), device_manager_running=dm, local_platform_running=platform, run=run)
    if options.json:
        say(msgspec.json.format(msgspec.json.encode(status)).decode())
        return EXIT_PASSED
    say(f"run {run.run_id} of profile {run.profile} in {artifacts}")
    for step in run.steps:
        say(f"  {step.name:15} {step.outcome:9} {step.duration:6.2f} s  {step.error or ''}".rstrip())
    say(f"  device manager  {'running' if dm else 'not running'}")
    if backend is not None and backend.kind == "local":
        say(f"  local platform  {f'running at {backend.url}' if platform else 'not running'}")
    return EXIT_PASSED


def show_profiles(options: argparse.Namespace) -> int:
    """Print every profile that can be named, or the schema by which editors check them."""
    if options.what == "schema":
        say(profile_schema().rstrip("\n"))
        return EXIT_PASSED
    for name, path in find_profiles().items():
        try:
            description = load_profile(path, environ={}).description
        except ConfigError as error:
            description = f"cannot be used: {error}"
        say(f"{name:16} {description}  ({path})")
    return EXIT_PASSED


def _load(options: argparse.Namespace) -> Profile:
    signals.end_with_parent(os.environ)
    overrides = {key: value for key, value in vars(options).items() if "." in key or key == "backend"}
    return load_profile(options.profile, overrides=overrides, timeout_multiplier=options.timeout_multiplier)


@contextmanager
def _watched(profile: Profile, artifacts: Path) -> Iterator[Sink]:
    """Show the run on the screen and keep its log and events in its folder."""

    def point_latest(event: Event) -> None:
        if isinstance(event, RunStarted) and artifacts.parent == OUTPUT:
            state.point_latest(artifacts, profile.name)

    with shown(artifacts / "test-run.log") as live:
        sinks: list[Sink] = [write_jsonl(artifacts / "events.jsonl"), point_latest, tell_steps]
        if live is not None:
            sinks.append(live)
        try:
            yield fan_out(sinks)
        except Cancelled as error:
            log.error("cancelled by %s", error)
            raise
