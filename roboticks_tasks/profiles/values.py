"""What a profile can say. Every key has a default; a newcomer should guess each one."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roboticks_tasks.models import Value

LONGEST = 1_000_000
"""Seconds, eleven days: what the operating system's own waits can still count."""

Seconds = Annotated[float, Meta(gt=0, le=LONGEST, description="seconds")]
Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes a free one")]
Argv = Annotated[tuple[str, ...], Meta(description="a command and its arguments; {root}, {binary} … are filled in")]


class Target(Value, frozen=True, kw_only=True):
    """Where the commands of the run are executed."""

    kind: Annotated[Literal["local"], Meta(description="local: this machine")] = "local"


class Source(Value, frozen=True, kw_only=True):
    """Where the device manager comes from when it is not on the target yet; name a path or a url."""

    path: str | None = None
    url: Annotated[str, Meta(pattern="^https?://")] | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None


class LogPatterns(Value, frozen=True, kw_only=True):
    """Regular expressions for lines of the device manager's log, each with a group of its key's name.

    The platform's documentation fixes neither; the first is what its test runner logs, the second is our choice.
    """

    dsn: str = r"Registered with DSN: (?P<dsn>\S+)"
    session: str = r"Session created: (?P<session>[0-9a-fA-F-]{36})"


class Control(Value, frozen=True, kw_only=True):
    """Commands that drive the running device manager from its own machine.

    Our choice, not documented by the platform: it names three ways to start a session, no command line. Each command
    prints one line of JSON and ends 0, or says why not on stderr.
    """

    start_session: Argv = ("{binary}", "ctl", "start-session", "--timeout", "{timeout}")
    stop_session: Argv = ("{binary}", "ctl", "stop-session")
    list_compositions: Argv = ("{binary}", "ctl", "list-compositions")
    start_composition: Argv = ("{binary}", "ctl", "start-composition", "{composition}", "--mode", "{mode}")
    stop_composition: Argv = ("{binary}", "ctl", "stop-composition", "{composition}")


class DeviceManagerSpec(Value, frozen=True, kw_only=True):
    """Which device manager, and where it keeps its things on the target."""

    kind: Annotated[
        Literal["native", "simulated"],
        Meta(description="native: the vendor's binary; simulated: ours, for no hardware"),
    ] = "native"
    root: Annotated[str, Meta(min_length=1, description="the platform's folder on the target (ROBOTICKS_ROOT)")] = (
        "/opt/roboticks"
    )
    source: Source | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    state_file: str = "{root}/state/device-manager.json"
    log_file: str = "{root}/log/device-manager.log"
    log_patterns: LogPatterns = LogPatterns()
    control: Control = Control()


class SessionSpec(Value, frozen=True, kw_only=True):
    """Who asks for the session; the platform does not create one by itself."""

    request: Annotated[
        Literal["control", "platform", "none"],
        Meta(description="control: the device manager's own command; platform: a command over MQTT; none: only wait"),
    ] = "control"


class DeploymentSpec(Value, frozen=True, kw_only=True):
    """What runs under the device manager."""

    path: (
        Annotated[
            str,
            Meta(
                description="folder whose files <root>/deployment shall hold; package:NAME/folder is inside a package"
            ),
        ]
        | None
    ) = None
    composition: Annotated[str, Meta(description="the only one to start (ROBOTICKS_COMPOSITION)")] | None = None
    mode: Annotated[str, Meta(min_length=1, description="ROBOTICKS_COMPOSITION_MODE")] = "prod"


class SuiteSpec(Value, frozen=True, kw_only=True):
    """What decides the run."""

    command: Annotated[str, Meta(min_length=1, description="ROBOTICKS_TEST_COMMAND")] = "pytest tests/ -v"
    timeout: Annotated[float, Meta(gt=0, le=LONGEST, description="seconds (ROBOTICKS_TEST_TIMEOUT)")] = 3600


class Timeouts(Value, frozen=True, kw_only=True):
    """How long each step may take, in seconds; 30 s for DSN and session are the platform's own limits."""

    binary: Seconds = 300
    launch: Seconds = 5
    dsn: Seconds = 30
    session: Seconds = 30
    deploy: Seconds = 60
    teardown: Seconds = 8


class LocalPlatform(Value, frozen=True, kw_only=True):
    """How `backend = "local"` is run: one process on this machine, reachable from nowhere else."""

    directory: Annotated[str, Meta(description="its database, keys and log; kept between runs")] = ".roboticks/platform"
    http_port: Port = 0
    mqtt_port: Port = 0
    broker: Annotated[
        Literal["auto", "mosquitto", "builtin"], Meta(description="auto: mosquitto where it is installed")
    ] = "auto"


class Profile(Value, frozen=True, kw_only=True):
    """One kind of hardware: how to reach it, what runs on it, which tests decide."""

    name: str = ""
    description: str = ""
    backend: Annotated[
        str, Meta(pattern="^(local|https?://.+)$", description='the platform\'s URL, or "local" (ROBOTICKS_API_URL)')
    ] = "https://api.roboticks.io"
    organization: Annotated[str, Meta(description="the platform's organization (ROBOTICKS_ORG)")] | None = None
    project: Annotated[str, Meta(description="the platform's project (ROBOTICKS_PROJECT)")] | None = None
    target: Target = Target()
    device_manager: DeviceManagerSpec = DeviceManagerSpec()
    session: SessionSpec = SessionSpec()
    deployment: DeploymentSpec = DeploymentSpec()
    tests: SuiteSpec = SuiteSpec()
    timeouts: Timeouts = Timeouts()
    local_platform: LocalPlatform = LocalPlatform()
