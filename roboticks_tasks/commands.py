"""What the commands of the command line do: load the profile, find the run, call the lifecycle, show the result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from roboticks_tasks import lifecycle, signals, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.boards import lease
from roboticks_tasks.boards.health import note_health
from roboticks_tasks.console import log, say, shown, tell_steps
from roboticks_tasks.errors import (
    EXIT_PASSED,
    EXIT_TEARDOWN_INCOMPLETE,
    EXIT_TESTS_FAILED,
    BoardInUseError,
    Cancelled,
    ConfigError,
    Verdict,
)
from roboticks_tasks.events import Event, RunStarted, Sink, fan_out, write_jsonl
from roboticks_tasks.lifecycle import pipeline
from roboticks_tasks.lifecycle.run import OUTPUT, lease_of, need
from roboticks_tasks.lifecycle.salvage import await_guard, clear_board
from roboticks_tasks.lifecycle.support.clock import read_clock
from roboticks_tasks.lifecycle.support.record import Record
from roboticks_tasks.lifecycle.support.result import refuse
from roboticks_tasks.models import TeardownReport
from roboticks_tasks.profiles import Profile, board_of, candidates, find_profiles, load_profile
from roboticks_tasks.profiles.schema import profile_schema
from roboticks_tasks.publishing import publish
from roboticks_tasks.reporting.summary import summarise
from roboticks_tasks.signals import Interruption
from roboticks_tasks.targets import open_target


def hil_test(options: argparse.Namespace) -> int:
    """Run the whole lifecycle in a run folder of its own."""
    try:
        profile = _load(options)
    except ConfigError as error:
        if options.artifacts is not None:
            refuse(options.profile, options.artifacts, error)
        raise
    artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
    with signals.handled():  # from before the run until it has been told: a late signal does not change the code
        with _watched(profile, artifacts) as sink:
            result = pipeline.main(
                profile,
                artifacts=artifacts,
                args=options.rest,
                board=options.board,
                wait=options.wait,
                keep_on_failure=options.keep_on_failure,
                sink=sink,
            )
        say(summarise(result, artifacts))  # of what is public already
    return result.exit_code


def run_step(options: argparse.Namespace) -> int:
    """Run one step on the run folder of the steps before; ensure-binary begins a new run."""
    if options.step == "ensure-binary":
        return _begin(options)
    profile = _load(options)
    artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
    profile, run = _in_run(profile, artifacts, options)
    with signals.handled() as interruption, ExitStack() as held:
        with interruption.raising():
            lease_it = lease_of(run, profile, artifacts, board=options.board, wait=options.wait)
            leased = held.enter_context(lease_it)
        sink = held.enter_context(_watched(profile, artifacts))
        record = Record.resume(leased, artifacts, sink=sink)
        with interruption.raising():
            return STEPS[options.step](leased, record, artifacts, options)


def _begin(options: argparse.Namespace) -> int:
    """Begin a run that is done step by step."""
    profile = _load(options)
    artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
    with signals.handled() as interruption, ExitStack() as held:
        with interruption.raising():
            leased = held.enter_context(lease(profile, run=artifacts, board=options.board, wait=options.wait))
        sink = held.enter_context(_watched(profile, artifacts))
        with interruption.raising():
            clear_board(leased)
        record = Record.begin(leased, artifacts, sink=sink, whole=False)
        try:
            with interruption.raising():
                return _ensure_binary(leased, record, artifacts)
        finally:
            note_health(leased, record.run)


def _in_run(profile: Profile, artifacts: Path, options: argparse.Namespace) -> tuple[Profile, state.RunState]:
    """Return the run in `artifacts` and its profile; ConfigError when it has another board than the one meant."""
    run = state.load(artifacts, profile.name)
    profile = state.as_in_run(profile, run)
    if options.board not in {None, board_of(profile).id}:
        raise ConfigError(
            f"the run in {artifacts} has board {board_of(profile).id!r}, not {options.board!r}",
            remedy="leave out --board and ROBOTICKS_BOARD, or name that board's run with --artifacts",
        )
    return profile, run


def run_teardown(options: argparse.Namespace) -> int:
    """Tear down a run, or whatever is left where no run is known: CI calls this whatever happened before."""
    profile = _load(options)
    try:
        artifacts = options.artifacts or state.latest_folder(OUTPUT, profile.name)
        profile, run = _in_run(profile, artifacts, options)
    except state.NoRunError:
        artifacts = options.artifacts or state.fresh_folder(OUTPUT, profile.name)
        return _teardown_without_run(profile, artifacts, options)
    await_guard(profile, run)
    with signals.handled() as interruption, ExitStack() as held:
        leased = _lease_to_clean(profile, artifacts, options, held, interruption)
        sink = held.enter_context(_watched(leased, artifacts))
        record = Record.resume(leased, artifacts, sink=sink)
        run = record.run
        report = record.step(
            lifecycle.teardown,
            leased,
            artifacts=artifacts,
            dm=run.dm,
            session=run.session,
            backend=run.backend,
            run_id=run.run_id,
        )
        code = _tell_teardown(report)
        if run.guard is not None and not (artifacts / state.RESULT_FILE).exists():
            record.note_death()  # a whole run that nobody has judged: it was killed together with its guard
        if _has_verdict(record.run):
            result = publish(leased, artifacts, record.finish(), interruption=interruption)
            if result.verdict != Verdict.PASSED:
                pipeline.print_dm_logs(artifacts)
            say(summarise(result, artifacts))
        else:
            record.settle()
    return code


def _teardown_without_run(profile: Profile, artifacts: Path, options: argparse.Namespace) -> int:
    """Clean every board that is meant: without a run nobody knows which one it would have been.

    Of several boards those in use are passed over: the runs that have them clean up themselves.
    """
    boards = candidates(profile, options.board)
    codes = []
    for each in boards:
        folder = artifacts if len(boards) == 1 else artifacts / board_of(each).id
        try:
            with signals.handled() as interruption, ExitStack() as held:
                leased = _lease_to_clean(each, folder, options, held, interruption)
                if len(boards) > 1:
                    say(f"board {board_of(each).id}:")
                clear_board(leased)
                codes.append(_tell_teardown(lifecycle.teardown(leased, artifacts=folder)))
        except BoardInUseError as error:
            if len(boards) == 1:
                raise
            say(f"board {board_of(each).id} is left alone: {error}")
    return max(codes, default=EXIT_PASSED)


def _lease_to_clean(
    profile: Profile, artifacts: Path, options: argparse.Namespace, held: ExitStack, interruption: Interruption
) -> Profile:
    """Hold the board, a parked one too: what parked it is what has to be cleaned. A signal ends only the wait."""
    with interruption.raising():
        return held.enter_context(
            lease(profile, run=artifacts, board=options.board, wait=options.wait, borrow_quarantined=True)
        )


def _tell_teardown(report: TeardownReport) -> int:
    for part in report.parts:
        say(f"{part.name:15} {'ok' if part.ok else 'FAILED'}  {part.detail}")
    return EXIT_PASSED if report.ok else EXIT_TEARDOWN_INCOMPLETE


def _has_verdict(run: state.RunState) -> bool:
    """Tell whether there is anything to judge: a deployment that was only looked at is neither passed nor failed."""
    failed = any(step.outcome != "ok" for step in run.steps)
    return run.tests is not None or run.signal is not None or failed


def _ensure_binary(profile: Profile, record: Record, artifacts: Path) -> int:
    record.step(lifecycle.ensure_board, profile, artifacts=artifacts)
    record.step(lifecycle.ensure_binary, profile)
    return EXIT_PASSED


def _launch_dm(profile: Profile, record: Record, artifacts: Path, options: argparse.Namespace) -> int:
    binary = need(record.run.binary, "ensure-binary")
    backend = record.step(lifecycle.ensure_backend, profile, artifacts=artifacts)
    with open_target(profile) as target:
        record.step(lifecycle.launch_dm, profile, binary, backend, artifacts=artifacts, target=target)
        record.note_clock(read_clock(target))
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
        lifecycle.pytest_session,
        profile,
        session,
        artifacts=artifacts,
        args=options.rest,
        dm=record.run.dm,
        bus=record.run.deployment.bus if record.run.deployment else None,
        board=record.run.board,
    )
    return EXIT_PASSED if result.ok else EXIT_TESTS_FAILED


STEPS: dict[str, Callable[[Profile, Record, Path, argparse.Namespace], int]] = {
    "launch-dm": _launch_dm,
    "await-dsn": _await_dsn,
    "await-session": _await_session,
    "deploy": _deploy,
    "pytest-session": _pytest_session,
}


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
    os.environ["ROBOTICKS_TIMEOUT_MULTIPLIER"] = str(options.timeout_multiplier)  # the tests' own limits grow with it
    overrides = {key: value for key, value in vars(options).items() if "." in key or key == "backend"}
    return load_profile(options.profile, overrides=overrides, timeout_multiplier=options.timeout_multiplier)


@contextmanager
def _watched(profile: Profile, artifacts: Path) -> Iterator[Sink]:
    """Show the run on the screen and keep its log and events in its folder."""

    def point_latest(event: Event) -> None:
        if isinstance(event, RunStarted) and artifacts.parent == OUTPUT:
            state.point_latest(artifacts, profile.name)

    with shown(artifacts / "test-run.log", redactor=redactor_of(profile)) as live:
        sinks: list[Sink] = [write_jsonl(artifacts / "events.jsonl"), point_latest, tell_steps]
        if live is not None:
            sinks.append(live)
        try:
            yield fan_out(sinks)
        except Cancelled as error:
            log.error("cancelled by %s", error)
            raise
