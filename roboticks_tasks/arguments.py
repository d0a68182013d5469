"""The words of the command line. Each command names the function that does it, which is imported when it is called."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path

from roboticks_tasks import __version__

EPILOG = """\
exit codes: 0 passed; 1 tests failed; 2 usage, profile or run state; 10-16 the step that failed (ensure-binary,
launch-dm, await-dsn, await-session, deploy, no verdict, no tests); 17 teardown incomplete; 18 report not written;
20 board in use; 21 board in quarantine; 22 board not powered, not reached or another one; 23 a key is
refused or not pinned; 70 a bug of ours; 130, 143 cancelled. The run's result.json has the verdict and the reason.
"""

LONGEST = 1_000_000
"""Seconds, eleven days; no flag asks for more."""

KEEP = 1800.0
"""Seconds for which a failed run is kept, where nobody says for how long."""

STEPS = {
    "ensure-binary": "begin a run: have the device manager on the target, able to run there",
    "launch-dm": "start the device manager as a test device, and the local platform if need be",
    "await-dsn": "wait until the device has registered; print its serial number",
    "await-session": "ask for a session and wait until it is active; print its id",
    "deploy": "bring the deployment, start the compositions, wait until each one runs",
    "pytest-session": "run the tests; what follows -- goes to the test command",
    "teardown": "stop all that the run has started and collect its logs; 0 where nothing is left to do",
}
"""The steps of a run in their order: each works in a process of its own, on the run folder of the ones before."""

OVERRIDES = (
    ("--root", "device_manager.root", str),
    ("--backend", "backend", str),
    ("--composition", "deployment.composition", str),
    ("--mode", "deployment.mode", str),
    ("--test-command", "tests.command", str),
    ("--test-timeout", "tests.timeout", float),
)
"""Options that set a key of the profile."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="roboticks-tasks",
        description="Hardware-in-the-loop tests of robots that run the Roboticks device manager.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"roboticks-tasks {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    whole = _add(
        commands, "hil-test", "commands.hil_test", "run the whole lifecycle; what follows -- goes to the test command"
    )
    _add_artifacts(whole, "folder for this run (default: a new one in test-output)")
    whole.add_argument(
        "--keep-on-failure",
        type=_seconds,
        nargs="?",
        const=KEEP,
        metavar="SECONDS",
        help=f"leave a run that failed as it is, to be looked at, and tear it down then (default: {KEEP:g})",
    )
    _add_lease(whole)
    _add_overrides(whole)
    for name, text in STEPS.items():
        step = _add(commands, name, "commands.run_teardown" if name == "teardown" else "commands.run_step", text)
        step.set_defaults(step=name)
        _add_artifacts(step, "the run's folder (default: the profile's latest in test-output)")
        _add_lease(step)
        _add_overrides(step)
    status = _add(
        commands, "status", "board_commands.status.show_status", "show what a run has done and what is still running"
    )
    _add_artifacts(status, "the run's folder (default: the profile's latest in test-output)")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--reap", action="store_true", help="tear down every run of yours on this machine that is dead")

    _add_report(commands)
    _add_upload(commands)
    _add_history(commands)

    profiles = commands.add_parser("profiles", help="list the profiles, print their JSON schema, or write a new one")
    profiles.set_defaults(command="commands.show_profiles", what="list")
    whats = profiles.add_subparsers(metavar="list | schema | new")
    for what, text in {"list": "list the profiles", "schema": "print their JSON schema"}.items():
        whats.add_parser(what, help=text).set_defaults(what=what)
    _add_new_profile(whats)

    doctor = _add(commands, "doctor", "doctor.command.doctor", "find out what is wrong with a bench before a run does")
    _add_board(doctor, "each in turn")
    doctor.add_argument("--json", action="store_true", help="for programs")
    _add_overrides(doctor)
    enroll = _add(
        commands,
        "enroll",
        "board_commands.enrollment.enroll",
        "trust a board's host key, once somebody has compared it",
    )
    _add_board(enroll, "each in turn")
    enroll.add_argument("--fingerprint", metavar="SHA256:…", help="trust this key, and no other that is offered")
    enroll.add_argument("--yes", action="store_true", help="trust what is offered, without a question")
    enroll.add_argument("--replace", action="store_true", help="trust another key than the one that is pinned")
    power = _add(commands, "power", "board_commands.power.power", "switch a board's power, or show whether it has any")
    power.add_argument("action", choices=("on", "off", "cycle", "state"))
    _add_board(power, "the only one")
    return top


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: str,
    text: str,
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
    sub.set_defaults(command=command)
    sub.add_argument("--profile", default="sim", metavar="NAME", help="a profile's name or TOML file (default: sim)")
    return sub


def _add_artifacts(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--artifacts", type=_folder, metavar="DIR", help=text)


def _add_lease(sub: argparse.ArgumentParser) -> None:
    _add_board(sub)
    sub.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait for a board that is in use (default: do not)",
    )


def _add_board(sub: argparse.ArgumentParser, otherwise: str = "a free one") -> None:
    board = os.environ.get("ROBOTICKS_BOARD") or None
    text = f"one of the profile's boards (default: ROBOTICKS_BOARD, else {otherwise})"
    sub.add_argument("--board", default=board, metavar="ID", help=text)


def _seconds(word: str) -> float:
    seconds = float(word)
    if not 0 <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{word} is not a number of seconds from 0 to {LONGEST}")
    return seconds


def _folder(word: str) -> Path:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is not UTF-8") from error
    return Path(word)


def _add_overrides(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("instead of what the profile or a ROBOTICKS_* variable says")
    for option, key, kind in OVERRIDES:
        name = option[2:].upper().replace("-", "_")
        group.add_argument(option, dest=key, type=kind, metavar=name, help=f"`{key}` of the profile")
    group.add_argument(
        "--timeout-multiplier",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiply `timeouts` of the profile, for slow hardware",
    )


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "make a finished run's report.html and timeline anew, or print what was said during one of its tests"
    report = _add(commands, "report", "report_commands.report.report", text)
    _add_run(report)
    report.add_argument("--test", metavar="NAME", help="print the timeline of the test whose name contains NAME")


def _add_upload(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "send a finished run's results and files to the platform, as far as it does not have them yet"
    upload = _add(commands, "upload", "report_commands.upload.upload", text)
    _add_run(upload)
    upload.add_argument("--json", action="store_true", help="for programs")


def _add_run(sub: argparse.ArgumentParser) -> None:
    """Add the folder of a finished run, as a word of its own."""
    text = "the run's folder (default: the profile's latest in test-output)"
    sub.add_argument("run", type=_folder, nargs="?", metavar="RUN", help=text)


def _add_history(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "show what the runs of this machine tell together: slow steps, flaky tests, flaky boards"
    history = _add(commands, "history", "report_commands.history.history", text)
    history.set_defaults(profile=None)
    history.add_argument("--last", type=_positive, metavar="N", help="only the N latest runs, and list them all")
    history.add_argument(
        "--since", type=_date, metavar="DATE", help="only runs from then on: 2026-11-22, or with a time"
    )
    history.add_argument("--json", action="store_true", help="for programs")
    history.add_argument("--html", type=_folder, metavar="FILE", help="write a page with plots")
    history.add_argument(
        "--import", dest="imported", type=_folder, nargs="+", metavar="JUNIT", help="add a run for each JUnit file"
    )
    history.add_argument("--commit", metavar="SHA", help="which all of them tested, with a clean tree")
    history.add_argument("--board", metavar="ID", help="which all of them ran on")
    history.add_argument("--prune", type=_days, metavar="DAYS", help="forget the runs that began more days ago")


def _positive(word: str) -> int:
    if not word.isascii() or not word.isdecimal() or not 0 < int(word[:10]) <= LONGEST:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1 to {LONGEST}")
    return int(word)


def _days(word: str) -> float:
    days = float(word)
    if not 0 <= days <= LONGEST:
        raise argparse.ArgumentTypeError(f"{word} is not a number of days from 0 to {LONGEST}")
    return days


def _date(word: str) -> datetime:
    try:
        return datetime.fromisoformat(word).astimezone()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{word!r} is not a date like 2026-11-22 or 2026-11-22T14:30") from error


def _add_new_profile(whats: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "write hardware_profiles/NAME.toml from a shipped one; a terminal is asked for what is missing"
    new = whats.add_parser("new", help=text, description=text)
    new.set_defaults(command="board_commands.new_profile.new_profile")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--force", action="store_true", help="replace the file that is there")
    for option, metavar, help_text in (
        ("--kind", "KIND", "shipped profile to begin with: jetson, raspberry-pi, x86, microcontroller …"),
        ("--board", "ID", "the board's name in the lab (default: NAME)"),
        ("--host", "HOST", "its host name or address (default: its name)"),
        ("--user", "USER", "who logs in there"),
        ("--console", "PORT", "its serial console: /dev/serial/by-id/…, socket://host:port or rfc2217://host:port"),
        ("--identity", "WHAT=VALUE", "serial=…, mac=… or dsn=…: what tells it from every other board"),
        ("--power-on", "COMMAND", "command of this machine that switches it on"),
        ("--power-off", "COMMAND", "command that switches it off"),
        ("--power-state", "COMMAND", "command that prints on or off"),
        ("--root", "DIR", "the platform's folder on the target"),
        ("--backend", "URL", 'the platform\'s URL, or "local"'),
    ):
        new.add_argument(option, metavar=metavar, help=help_text)
    new.add_argument("--port", type=int, metavar="N", help="TCP port of its SSH server")
    new.add_argument("--baudrate", type=int, metavar="N", help="of its console")
