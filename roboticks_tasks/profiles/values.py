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


class Login(Value, frozen=True, kw_only=True):
    """How to log in on a serial console that asks for it; the patterns are regular expressions."""

    user: str = "root"
    password_variable: (
        Annotated[
            str,
            Meta(description="environment variable that holds the password; none: the console asks for no password"),
        ]
        | None
    ) = None
    login_prompt: str = r"login: ?$"
    password_prompt: str = r"[Pp]assword: ?$"  # noqa: S105 - what a console asks, not a password


class Target(Value, frozen=True, kw_only=True):
    """Where the commands of the run are executed; which board that is, `boards` says."""

    kind: Annotated[
        Literal["local", "ssh", "serial"],
        Meta(description="local: this machine; ssh: the board's host; serial: a shell on the board's console"),
    ] = "local"
    user: Annotated[str, Meta(min_length=1, description="ssh: the user on the board")] | None = None
    port: Annotated[int, Meta(ge=1, le=65535, description="ssh: its TCP port")] | None = None
    identity_file: Annotated[str, Meta(description="ssh: the private key; none: what ssh finds by itself")] | None = (
        None
    )
    jump: Annotated[str, Meta(description="ssh: host on the way, [user@]host[:port] (ProxyJump)")] | None = None
    known_hosts: Annotated[
        str, Meta(min_length=1, description="ssh: file with the pinned host key of each board; `enroll` writes it")
    ] = "hardware_profiles/known_hosts"
    connect_timeout: Seconds = 10
    keep_alive: Annotated[
        float, Meta(ge=1, le=3600, description="ssh: seconds between signs of life; three missing end the connection")
    ] = 5
    reboot_timeout: (
        Annotated[
            float,
            Meta(gt=0, le=LONGEST, description="seconds that the board may be away; none: it does not reboot in a run"),
        ]
        | None
    ) = None
    login: Login = Login()


class Console(Value, frozen=True, kw_only=True):
    """A board's serial console, captured into the run's folder."""

    port: Annotated[
        str, Meta(min_length=1, description="/dev/serial/by-id/…, socket://host:port or rfc2217://host:port")
    ]
    baudrate: Annotated[int, Meta(ge=50, le=4_000_000, description="bits per second")] = 115200


class Identity(Value, frozen=True, kw_only=True):
    """What tells this board from every other one; compared before anything is written to it. Name one or several."""

    serial: (
        Annotated[str, Meta(min_length=1, description="serial number in device tree, DMI or /proc/cpuinfo")] | None
    ) = None
    mac: Annotated[str, Meta(pattern="^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$", description="of any interface")] | None = (
        None
    )
    dsn: (
        Annotated[str, Meta(min_length=1, description="in the registration file, and as the device registers")] | None
    ) = None
    command: Argv | None = None
    equals: Annotated[str, Meta(description="what `command` prints")] | None = None


class Power(Value, frozen=True, kw_only=True):
    """Commands of this machine that switch the board's power: uhubctl, a PDU's tool, a relay's.

    `state` prints on or off. `safe` is the state that teardown restores and, where `state` is given, reads back.
    """

    on: Argv | None = None
    off: Argv | None = None
    cycle: Annotated[tuple[str, ...], Meta(description="none: off, a moment, on")] | None = None
    state: (
        Annotated[tuple[str, ...], Meta(description="prints a line that contains on or off, and not both")] | None
    ) = None
    at_start: Annotated[Literal["on", "cycle"], Meta(description="what a run does first")] = "on"
    safe: Annotated[Literal["on", "off"], Meta(description="what teardown leaves")] | None = None
    off_time: Annotated[float, Meta(ge=0, le=3600, description="seconds between off and on of a cycle")] = 2
    boot_timeout: Annotated[float, Meta(gt=0, le=LONGEST, description="seconds until the board answers")] = 120
    timeout: Annotated[float, Meta(gt=0, le=3600, description="seconds for each of the commands")] = 30


class Board(Value, frozen=True, kw_only=True):
    """One physical board of the profile's kind."""

    id: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="its name in the lab")]
    host: (
        Annotated[str, Meta(min_length=1, description="ssh: host name or address, or a Host of the ssh config")] | None
    ) = None
    port: Annotated[int, Meta(ge=1, le=65535, description="ssh: its TCP port, when not `target.port`")] | None = None
    console: Console | None = None
    identity: Identity | None = None
    power: Power | None = None
    features: tuple[str, ...] = ()


class Quarantine(Value, frozen=True, kw_only=True):
    """When a board that fails its preflight or its safe state is parked, and for how long."""

    failures: Annotated[int, Meta(ge=1, le=1000, description="in a row")] = 3
    expiry: Annotated[float, Meta(gt=0, le=LONGEST, description="seconds")] = 86_400


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


class Bindings(Value, frozen=True, kw_only=True):
    """The device manager's Python bindings: the module, and its calls.

    The module and `wait_for_registration`, `get_dsn`, `get_active_session_id`, `stop_active_session`, `is_running` and
    `stop` are documented and cannot be set. What is here is not documented: the defaults are our guesses.
    """

    module: str = "roboticks_device"
    path: Annotated[tuple[str, ...], Meta(description="folders on the target to import it from")] = (
        "{root}/install/lib",
    )
    type: Annotated[
        str, Meta(description="the class, made without arguments; or a call, DeviceManager.getInstance")
    ] = "DeviceManager"
    start: str = "start"
    start_session: str = "start_session"
    list_compositions: str = "list_compositions"
    start_composition: Annotated[str, Meta(description="called with name and mode")] = "start_composition"
    stop_composition: str = "stop_composition"


class DeviceManagerSpec(Value, frozen=True, kw_only=True):
    """Which device manager, and where it keeps its things on the target; {board} in `root` is the board's id."""

    kind: Annotated[
        Literal["native", "bindings", "simulated", "firmware"],
        Meta(
            description="native: the vendor's binary; bindings: its Python module; simulated: ours, for no hardware; "
            "firmware: a microcontroller's, of which only the console is known"
        ),
    ] = "native"
    root: Annotated[str, Meta(min_length=1, description="the platform's folder on the target (ROBOTICKS_ROOT)")] = (
        "/opt/roboticks"
    )
    source: Source | None = None
    flash: (
        Annotated[
            tuple[str, ...],
            Meta(description="firmware: command that writes {source} to {board}; {port} is its console"),
        ]
        | None
    ) = None
    interpreter: Annotated[str, Meta(description="bindings, simulated: Python on the target")] | None = None
    bindings: Bindings = Bindings()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    watchdog: Annotated[
        float,
        Meta(
            ge=0,
            le=LONGEST,
            description="seconds without a sign of life from the run after which the board itself stops the device "
            "manager; 0: never",
        ),
    ] = 30
    state_file: str = "{root}/state/device-manager.json"
    log_file: str = "{root}/log/device-manager.log"
    log_patterns: LogPatterns = LogPatterns()
    registration_file: Annotated[
        str,
        Meta(description="where it caches its registration; the folder /etc/roboticks is documented, the name is not"),
    ] = "/etc/roboticks/registration.json"
    registration_pattern: Annotated[str, Meta(description="regular expression with a group dsn; our guess")] = (
        r'"dsn"\s*:\s*"(?P<dsn>[^"]+)"'
    )
    certificate_file: Annotated[
        str,
        Meta(description="the device's certificate, PEM or DER; /etc/roboticks is documented, the name is our guess"),
    ] = "/etc/roboticks/device.crt"
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
    destructive: Annotated[
        bool, Meta(description="run the tests marked `destructive` too, which may wear or wreck a board")
    ] = False


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


class Upload(Value, frozen=True, kw_only=True):
    """What is sent to the platform when a run is over; `roboticks-tasks upload` sends it whatever is said here."""

    results: Annotated[
        Literal["auto", "always", "never"],
        Meta(description="results.xml; auto: to the local platform, to a remote one nothing leaves this machine"),
    ] = "auto"
    files: Annotated[
        Literal["failed", "always", "never"],
        Meta(description="logs, report and attachments, with the results; failed: of runs that have not passed"),
    ] = "failed"


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
    boards: tuple[Board, ...] = ()
    quarantine: Quarantine = Quarantine()
    device_manager: DeviceManagerSpec = DeviceManagerSpec()
    session: SessionSpec = SessionSpec()
    deployment: DeploymentSpec = DeploymentSpec()
    tests: SuiteSpec = SuiteSpec()
    timeouts: Timeouts = Timeouts()
    local_platform: LocalPlatform = LocalPlatform()
    upload: Upload = Upload()
