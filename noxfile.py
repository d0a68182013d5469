"""The project's tasks. `nox -l` lists them; `nox -s hil-test -- --profile sim` runs the main job.

No hardware session runs by default. This file imports nothing of the package: nox has an environment of its own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "typecheck", "tests"]

STEPS = ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy", "pytest-session", "teardown")
PROFILES = sorted(path.stem for path in Path("hardware_profiles").glob("*.toml"))

PATIENCE = 20
"""Seconds that a run has for its teardown after Ctrl-C; nox would give it half a second."""

SOON = 0.5
"""Seconds until nox tells a run of a SIGINT that only nox has got; at a terminal both get it."""


def install(session: nox.Session, extra: str) -> None:
    """Install the project with an extra, unless this very pyproject.toml has been installed here before."""
    wanted = hashlib.sha256(Path("pyproject.toml").read_bytes()).hexdigest() + extra
    location = getattr(session.virtualenv, "location", None)
    if location is None:  # --no-venv: the user has installed what he wants
        return
    stamp = Path(location) / "installed.stamp"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    # uv writes no bytecode of its own accord, and every later start would pay for that.
    session.install("-e", f".[{extra}]", env={"UV_COMPILE_BYTECODE": "1"}, silent=True)
    stamp.write_text(wanted)


def run_task(session: nox.Session, *words: str) -> None:
    """Run a command of ours in the environment for hardware-in-the-loop runs."""
    install(session, "sim,serial")
    session.run(
        "python",
        "-m",
        "roboticks_tasks",
        *words,
        *session.posargs,
        env={"ROBOTICKS_END_WITH": str(os.getpid())},  # a SIGTERM ends nox at once; the run has to tear down then
        interrupt_timeout=SOON,
        terminate_timeout=PATIENCE,
    )


@nox.session(name="hil-test", venv_backend="uv|virtualenv")
def hil_test(session: nox.Session) -> None:
    """Run the whole lifecycle: `nox -s hil-test -- --profile NAME [-- PYTEST-ARGS]`."""
    run_task(session, "hil-test")


def add_profile(profile: str) -> None:
    """Add a session that runs the whole lifecycle with one profile."""

    @nox.session(name=f"hil-{profile}")
    def hil_profile(session: nox.Session) -> None:
        run_task(session, "hil-test", "--profile", profile)

    hil_profile.__doc__ = f"Run the whole lifecycle with profile {profile}."


def add_step(step: str) -> None:
    """Add a session that runs one step on the run folder of the steps before."""

    @nox.session(name=step)
    def one_step(session: nox.Session) -> None:
        run_task(session, step)

    one_step.__doc__ = f"Run only {step}: `nox -s {step} -- --profile NAME`."


for name in PROFILES:
    add_profile(name)
for name in STEPS:
    add_step(name)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite; what follows -- goes to pytest."""
    install(session, "dev")
    # Most tests wait for something that they have started: four of them keep two cores busy.
    session.run("pytest", "-n", "4", *session.posargs, interrupt_timeout=PATIENCE, terminate_timeout=PATIENCE)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Print how fast it is, as ratios against baselines of the same run."""
    install(session, "dev")
    session.run("python", "tests/benchmarks/bench_speed.py")
    session.run("python", "tests/benchmarks/bench_reports.py")


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Do harm to many runs at random moments: `nox -s chaos -- --seed N --runs 200`; print what was left behind."""
    install(session, "dev")
    words = ["python", "-m", "tests.faults.chaos", *session.posargs]
    session.run(*words, interrupt_timeout=PATIENCE, terminate_timeout=PATIENCE)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and that imports only go down the list of rooms."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types, strictly."""
    install(session, "dev")
    session.run("mypy")
