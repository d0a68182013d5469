"""The values that the lifecycle's functions take and return: frozen, serialisable, never a live object."""

from __future__ import annotations

from typing import Literal

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share one configuration: immutable, named fields only, nothing unknown accepted when read back."""


class Binary(Value, frozen=True, kw_only=True):
    """A device manager that is present and can run on the target."""

    path: str
    sha256: str | None = None
    architecture: str | None = None


class Process(Value, frozen=True, kw_only=True):
    """A process of this machine that belongs to a run: pid, and start time in clock ticks since boot."""

    pid: int
    start_time: int


class Capture(Value, frozen=True, kw_only=True):
    """A process that owns a serial port and writes all that comes out of it to `log`.

    Whoever has something to send, or wants the bytes as they come, connects to the Unix socket `socket`.
    """

    process: Process
    port: str
    log: str
    socket: str


class Link(Value, frozen=True, kw_only=True):
    """A connection to the board that lasts as long as the run, for tunnels; `control` is ssh's control socket."""

    process: Process
    control: str
    destination: str


class BoardRef(Value, frozen=True, kw_only=True):
    """The physical board that a run has, and its console's capture; `powered` is what was done to its power."""

    id: str
    capture: Capture | None = None
    powered: Literal["on", "cycled", "was on"] | None = None


class BackendRef(Value, frozen=True, kw_only=True):
    """Where the platform is, and where (not what) its credentials are.

    `secret_file` and `api_key_file` name files of the local platform; for a remote one both are None and the
    credentials come from `ROBOTICKS_PROJECT_SECRET` and `ROBOTICKS_API_KEY`. `device_url` is the platform as the
    device reaches it, where that is another URL; `link` is the connection to a board that both meet in.
    """

    url: str
    device_url: str | None = None
    link: Link | None = None
    mqtt_port: int | None = None
    kind: Literal["remote", "local"] = "remote"
    organization: str | None = None
    project: str | None = None
    directory: str | None = None
    pid: int | None = None
    start_time: int | None = None
    secret_file: str | None = None
    api_key_file: str | None = None


class DeviceManager(Value, frozen=True, kw_only=True):
    """A device manager that runs detached on the target: a description, not a connection.

    `identity` is what tells this process from a later one with the same pid: its start time and the boot it belongs to.
    """

    pid: int
    identity: str
    binary: str
    root: str
    log_path: str
    state_path: str
    backend: BackendRef


class Dsn(Value, frozen=True, kw_only=True):
    """The device's serial number on the platform, and who spoke first."""

    value: str
    source: Literal["state", "log"]


class Session(Value, frozen=True, kw_only=True):
    """A session of the device; the platform made its id."""

    id: str
    dsn: str
    source: Literal["state", "log", "platform"]


class Provenance(Value, frozen=True, kw_only=True):
    """Which change was tested, and by whose order: what a run's result is worth nothing without.

    `commit` is the full hash; `is_dirty` tells that tracked files differ from it, None that nobody knows. `ci` is the
    CI system's word in its variables, as the platform's client names it (`github-actions`, `gitlab-ci`, …), `url` the
    page of the job, `job` its name.
    """

    commit: str | None = None
    is_dirty: bool | None = None
    branch: str | None = None
    pull_request: int | None = None
    ci: str | None = None
    url: str | None = None
    job: str | None = None


class ClockReading(Value, frozen=True, kw_only=True):
    """How far the board's wall clock was from this machine's: `offset` is board minus bench, plus or minus `error`.

    All in seconds; `at` is this machine's, since the epoch.
    """

    at: float
    offset: float
    error: float


class Attachment(Value, frozen=True, kw_only=True):
    """A file that belongs to a test; `path` is relative to the run's folder, with slashes; `size` in bytes."""

    name: str
    path: str
    media_type: str
    size: int


class Composition(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One composition as the device manager reports it; what else it reports is not ours to refuse."""

    name: str
    mode: str
    status: str
    error: str | None = None


class Deployment(Value, frozen=True, kw_only=True):
    """What runs on the device; no composition when the deployment folder is missing.

    `bus` is the ZeroMQ endpoint, as seen from this machine, on which the modules' messages are published.
    """

    path: str
    mode: str
    compositions: tuple[Composition, ...] = ()
    files_sent: int = 0
    bus: str | None = None


class PytestResult(Value, frozen=True, kw_only=True):
    """The verdict of the tests: exit code of the command, counts and times from the JUnit file; duration in seconds."""

    exit_code: int
    junit: str
    passed: int
    failed: int
    errors: int
    skipped: int
    duration: float

    @property
    def ok(self) -> bool:
        """Tell whether nothing failed: neither the command, nor a test whose failure a pipe has swallowed."""
        return self.exit_code == 0 and self.failed + self.errors == 0


class TeardownPart(Value, frozen=True, kw_only=True):
    """One thing teardown did, or could not do; duration in seconds."""

    name: str
    ok: bool
    detail: str
    duration: float


class TeardownReport(Value, frozen=True, kw_only=True):
    """Every part of a teardown, tried in order."""

    parts: tuple[TeardownPart, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether every part could be confirmed."""
        return all(part.ok for part in self.parts)


class StepResult(Value, frozen=True, kw_only=True):
    """How one step of a run ended; duration in seconds. A failed one says which code and verdict it gives the run.

    `error` says it whole; `remedy` is the end of it that says what to try.
    """

    name: str
    outcome: Literal["ok", "failed", "cancelled"]
    duration: float
    error: str | None = None
    remedy: str | None = None
    exit_code: int = 0
    verdict: str | None = None


class RunResult(Value, frozen=True, kw_only=True):
    """A finished run: the content of result.json, and the contract with CI.

    `kept_until` (ISO 8601) is when a run that failed, and was to be kept for a look at it, is torn down. `cause` is who
    is to blame (change, test, bench, platform, profile, cancelled, bug, none), `diagnosis` the sentence that says why,
    and `advice` what to do next: all three None until the run's reports have been made.
    """

    run_id: str
    profile: str
    verdict: str
    exit_code: int
    reason: str
    started_at: str
    duration: float
    steps: tuple[StepResult, ...] = ()
    dsn: str | None = None
    session_id: str | None = None
    compositions: tuple[Composition, ...] = ()
    tests: PytestResult | None = None
    teardown: TeardownReport | None = None
    kept_until: str | None = None
    board_id: str | None = None
    provenance: Provenance = Provenance()
    cause: str | None = None
    diagnosis: str | None = None
    advice: str | None = None
