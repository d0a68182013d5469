"""The error tree: every failure knows its exit code, its verdict and what to try."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a run says about the change under test; only `failed` blames the product."""

    PASSED = "passed"
    FAILED = "failed"
    BENCH_ERROR = "bench-error"
    BACKEND_ERROR = "backend-error"
    CONFIG_ERROR = "config-error"
    CANCELLED = "cancelled"


class RoboticksError(Exception):
    """Say in one sentence what went wrong, and in `remedy` what to try.

    `exit_code` is the code of the command line; `verdict` goes into the reports. Both have a default per class and
    can be narrowed where the cause is known better (an unreachable platform is not the board's fault).
    """

    exit_code = 70
    verdict = Verdict.BENCH_ERROR

    def __init__(self, message: str, *, remedy: str = "", verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        if verdict is not None:
            self.verdict = verdict

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.remedy}" if self.remedy else message


class ConfigError(RoboticksError):
    """The usage, the profile or the state of the run folder is wrong."""

    exit_code = 2
    verdict = Verdict.CONFIG_ERROR


class BackendError(RoboticksError):
    """The platform, or the local one, cannot be started, reached or understood."""

    exit_code = 11
    verdict = Verdict.BACKEND_ERROR


class BinaryError(RoboticksError):
    """ensure_binary: the device manager is missing, or cannot run on this target."""

    exit_code = 10
    verdict = Verdict.CONFIG_ERROR


class LaunchError(RoboticksError):
    """launch_dm: the device manager did not start."""

    exit_code = 11


class RegistrationError(RoboticksError):
    """await_dsn: no DSN came."""

    exit_code = 12


class SessionError(RoboticksError):
    """await_session: no session came."""

    exit_code = 13


class DeployError(RoboticksError):
    """deploy: the deployment could not be brought or a composition does not run."""

    exit_code = 14


class NoVerdictError(RoboticksError):
    """pytest_session: the tests ended without a verdict."""

    exit_code = 15
    verdict = Verdict.CONFIG_ERROR


class NoTestsError(RoboticksError):
    """pytest_session: nothing was collected."""

    exit_code = 16
    verdict = Verdict.CONFIG_ERROR


class BoardInUseError(RoboticksError):
    """Another run holds the board."""

    exit_code = 20


class BoardQuarantinedError(RoboticksError):
    """The board is parked because it has failed too often."""

    exit_code = 21


class BoardError(RoboticksError):
    """The board cannot be powered, reached or trusted, or is not the one that the profile names."""

    exit_code = 22


class AccessError(BoardError):
    """Board and user do not trust each other: a key is refused, or the board's own is not pinned, or another one."""

    exit_code = 23


class UnreachableError(BoardError):
    """The board does not answer; it may be booting, or without power."""


class TeardownError(RoboticksError):
    """teardown: some part could not be confirmed; told by the report, never raised."""

    exit_code = 17


class TargetError(RoboticksError):
    """A command could not be run on the target; the step that it broke wraps it and gives the exit code."""

    exit_code = 22


class Cancelled(KeyboardInterrupt):
    """A signal asked the run to end; not an `Exception`, so that no retry and no handler swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """Return 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal_number


EXIT_PASSED = 0
EXIT_TESTS_FAILED = 1
EXIT_TEARDOWN_INCOMPLETE = 17
EXIT_REPORT_NOT_WRITTEN = 18
EXIT_BUG = 70
EXIT_KILLED = 137
