"""Host the device manager's Python bindings, so that it is a process with a log, a state file and control commands.

    python3 bindings-host.py run SETTINGS [WORD ...]   be the device manager of ROBOTICKS_ROOT, started with the words
    python3 bindings-host.py ctl COMMAND ...           tell the one that runs to do something

A program of its own for the board: this one file, the standard library alone, Python 3.8 or later. The bindings are
called in the main thread, as the platform's own test runner calls them. Other threads answer `ctl` and notice signals,
because a call of the bindings may block for long; one that keeps the interpreter's lock as well blocks those too, and
is ended by SIGKILL then. Start, session and composition calls are not documented: their names are
in SETTINGS, a JSON object.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

SLICE = 1
"""Seconds of one `wait_for_registration`, a whole number because the documented one is; in between, ctl is answered."""

PACE = 0.05
"""Seconds between two looks whether there is a session."""

BLOCKED = 1.5
"""Seconds after a signal in which the main thread should have taken note; else it is stuck in a call."""

STOP_TIMEOUT = 5
"""Seconds that `stop` may take (documented)."""

LARGEST_REQUEST = 65_536
PATIENCE = 45.0
SESSION_TIMEOUT = 30.0
"""Seconds that a ctl command waits for its answer, and a session for its creation (the latter is documented)."""

DOCUMENTED = (
    "wait_for_registration",
    "get_dsn",
    "get_active_session_id",
    "stop_active_session",
    "is_running",
    "stop",
)
COMMANDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "status": (0, ()),
    "start-session": (0, ("--timeout",)),
    "stop-session": (0, ()),
    "list-compositions": (0, ()),
    "start-composition": (1, ("--mode",)),
    "stop-composition": (1, ()),
}
"""How many names each ctl command takes, and which options."""

FAILED, USAGE, ABSENT, ALREADY_RUNNING, BUG = 1, 2, 3, 6, 70


class Ending(Exception):  # noqa: N818 - a way to end, not an error of a part
    """The device manager must end; `code` and the sentence go to the state file."""

    def __init__(self, message: str, code: str = "bad-configuration", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code, self.exit_code = code, exit_code


class Stopping(Exception):  # noqa: N818 - a way to end, not an error of a part
    """A signal has asked us to end."""


class RefusedError(Exception):
    """What was asked for was not done; the message is one sentence."""


class UsageError(Exception):
    """The arguments are no command; the message is one sentence."""


def log(level: str, part: str, message: str) -> None:
    """Write one line in the device manager's format to stderr, which is the log."""
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    os.write(2, f"{moment}.{int(now % 1 * 1e6):06d}Z {level} [{part}] {text}\n".encode("utf-8", "replace"))


class State:
    """The state file: one line of JSON, replaced at every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.document: dict[str, Any] = {
            "pid": os.getpid(),
            "phase": "starting",
            "dsn": None,
            "error": None,
            "session": None,
            "compositions": [],
            "version": 1,
        }
        self.update()

    def update(self, **changes: Any) -> None:
        """Change keys of the document; once it is stopping, its phase goes only on to the end.

        A disk that is full ends no device manager: ctl still tells its state.
        """
        with self._lock:
            if self.document["phase"] == "stopping" and changes.get("phase") != "stopped":
                changes.pop("phase", None)
            self.document.update(changes)
            new = self._path.with_name(self._path.name + ".new")
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                new.write_text(json.dumps(self.document) + "\n", encoding="utf-8")
                new.replace(self._path)
            except OSError as error:
                log("ERROR", "device-manager", f"{self._path} cannot be written: {error.strerror}")


class Job:
    """Something to be done in the main thread, for a thread that waits for the result."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._over = threading.Event()
        self._error: Exception | None = None
        self._value: Any = None

    def run(self) -> None:
        """Do it, and keep the result or the error for `result`."""
        try:
            self._value = self._action()
        except Exception as error:
            self._error = error
        self._over.set()

    def result(self, patience: float) -> Any:
        """Return the result or raise the error; RefusedError when it was not done within `patience` seconds."""
        if not self._over.wait(patience):
            raise RefusedError(f"not done within {patience:g} s: a call of the bindings has not returned")
        if self._error is not None:
            raise self._error
        return self._value


class Bindings:
    """The object of the bindings; what it raises and what it returns become sentences."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Import the module and make the object; Ending names module, attribute and the profile's key."""
        self._settings = settings
        module, path, kind = settings["module"], settings["path"], settings["type"]
        sys.path[0:1] = path  # the first entry is the folder of this file, where no module is
        searched = ", ".join(path) or "the interpreter's own folders"
        remedy = "set `device_manager.bindings.path` or `device_manager.bindings.module`"
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module.partition(".")[0]:
                raise Ending(f"the module {module!r} needs {error.name!r}, which is missing: install it") from error
            raise Ending(f"there is no module {module!r} in {searched}: {remedy}") from error
        except Exception as error:
            raise Ending(f"the module {module!r} ({searched}) cannot be imported: {_said(error)}: {remedy}") from error
        maker: Any = found
        try:
            for part in kind.split("."):  # a factory, DeviceManager.getInstance say, is as good as a class
                maker = getattr(maker, part)
        except AttributeError:
            names = ", ".join(name for name in dir(found) if not name.startswith("_")) or "nothing"
            sentence = f"the module {module!r} has no {kind!r} (it has: {names})"
            raise Ending(f"{sentence}: set `device_manager.bindings.type`") from None
        try:
            self._manager: Any = maker()
        except Exception as error:
            sentence = f"{module}.{kind}() raised {_said(error)}"
            raise Ending(f"{sentence}: if it is not to be called so, set `device_manager.bindings.type`") from error
        missing = [name for name in DOCUMENTED if not hasattr(self._manager, name)]
        if missing:
            raise Ending(f"{module}.{kind}() has no {missing[0]!r}: set `device_manager.bindings.type`")
        if not self.has("start"):
            raise Ending(self._absence("start"))

    def has(self, key: str) -> bool:
        """Tell whether the object has the call that the profile names for `key`."""
        return hasattr(self._manager, self._settings[key])

    def configured(self, key: str, *arguments: Any) -> Any:
        """Make the call that the profile names for `key`; RefusedError when it is missing, raises or returns False."""
        if not self.has(key):
            raise RefusedError(self._absence(key))
        return self.documented(self._settings[key], *arguments)

    def documented(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make a call; RefusedError when it raises or returns False."""
        value = self.ask(name, *arguments, **options)
        if value is False:
            raise RefusedError(f"{name}({', '.join(map(repr, arguments))}) of the bindings returned False")
        return value

    def ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make a call whose answer may be False; RefusedError when it raises."""
        try:
            return getattr(self._manager, name)(*arguments, **options)
        except Exception as error:
            said = f"{name}({', '.join(map(repr, arguments))}) of the bindings raised {_said(error)}"
            raise RefusedError(said) from error

    def _absence(self, key: str) -> str:
        what = f"{self._settings['module']}.{self._settings['type']}()"
        return f"{what} has no {self._settings[key]!r}: set `device_manager.bindings.{key}`"


class Host:
    """The device manager: import, start, register, then attend to sessions and commands until a signal comes."""

    def __init__(self, settings: dict[str, Any], words: list[str], root: Path) -> None:
        self._settings, self._words, self._root = settings, words, root
        self._state = State(Path(settings["state_file"]))
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._bindings: Bindings | None = None
        self._stopping = False
        self._last = threading.Lock()
        self._complaint = ""

    def main(self) -> NoReturn:
        """Be the device manager until it ends, and this process with it."""
        try:
            self._listen()
            bindings = self._bring_up()
            while True:
                self._attend(bindings)
        except Stopping:
            self._finish()
        except Ending as ending:
            self._finish(ending)
        except BaseException as error:
            for line in traceback.format_exc().splitlines():
                log("CRITICAL", "device-manager", line)
            self._finish(Ending(f"a bug: {error!r}", code="internal-error", exit_code=BUG))

    def _listen(self) -> None:
        """Open the ctl socket, and let signals wake a thread whatever the main thread does."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        _catch_signals()
        threading.Thread(target=self._obey, args=(reading,), daemon=True).start()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = _address(self._root)
        with contextlib.suppress(FileNotFoundError):  # left by one that was killed
            Path(address).unlink()
        listener.bind(address)
        listener.listen(16)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _bring_up(self) -> Bindings:
        log("INFO", "device-manager", f"Starting {self._settings['module']}.{self._settings['type']}")
        bindings = self._bindings = Bindings(self._settings)
        try:
            bindings.configured("start", *self._words)
        except RefusedError as error:
            raise Ending(str(error), code="start-failed") from error
        _catch_signals()  # the bindings may have set handlers of their own
        self._state.update(phase="registering")
        self._register(bindings)
        dsn = bindings.ask("get_dsn")
        if not dsn:
            raise Ending("get_dsn() of the bindings gave no DSN after the registration", code="registration-failed")
        log("INFO", "registration", f"Registered with DSN: {dsn}")
        self._state.update(phase="online", dsn=str(dsn))
        return bindings

    def _register(self, bindings: Bindings) -> None:
        limit, begin = self._settings["registration_timeout"], time.monotonic()
        while True:
            slice_begin = time.monotonic()
            try:
                if bindings.ask("wait_for_registration", SLICE):
                    return
                alive = bindings.ask("is_running")
            except RefusedError as error:
                raise Ending(str(error), code="registration-failed") from error
            if not alive:
                raise Ending(
                    "wait_for_registration() of the bindings returned False, and is_running() does so too",
                    code="registration-failed",
                )
            if time.monotonic() - begin + SLICE > limit:
                raise Ending(
                    f"wait_for_registration() of the bindings returned False for {limit:g} s: "
                    "raise `timeouts.dsn` if it is only slow",
                    code="registration-failed",
                )
            # Some return at once although it has not come yet; none may keep this thread from its jobs.
            self._serve(max(0.0, slice_begin + SLICE - time.monotonic()))

    def _attend(self, bindings: Bindings) -> None:
        """Look after session and commands for a second, then see that the device manager is still running."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            self._serve(PACE)
            self._look_for_session(bindings)
        try:
            if not bindings.ask("is_running"):
                raise Ending("the device manager has stopped: is_running() returned False", code="stopped-by-itself")
        except RefusedError as error:
            self._complain(str(error))

    def _serve(self, seconds: float) -> None:
        """Do what ctl asks for until `seconds` have passed; Stopping when a signal has come."""
        end = time.monotonic() + seconds
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                job = None
            if self._stopping:
                raise Stopping
            if job is None:
                return
            job.run()

    def _look_for_session(self, bindings: Bindings) -> dict[str, Any] | None:
        """Return the active session, or None, and tell log and state when it is another one than before."""
        known: dict[str, Any] | None = self._state.document["session"]
        active = known["id"] if known is not None and known["status"] == "active" else None
        try:
            found = bindings.ask("get_active_session_id")
        except RefusedError as error:
            self._complain(str(error))
            return None
        current = str(found) if found else None
        if current == active:
            return known if current else None
        if known is not None and active is not None:
            log("INFO", "sessions", f"Session completed: {active}")
            known = dict(known, status="completed")
        if current is not None:
            log("INFO", "sessions", f"Session created: {current}")
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            known = {"id": current, "status": "active", "started_at": moment}
        self._state.update(session=known)
        return known if current else None

    def _complain(self, sentence: str) -> None:
        if sentence != self._complaint:  # what is asked many times a second fails as often
            self._complaint = sentence
            log("WARNING", "device-manager", sentence)

    def execute(self, bindings: Bindings, command: str, names: list[str], options: dict[str, str]) -> dict[str, Any]:
        """Do a command and return the JSON object to answer, or raise RefusedError."""
        if command == "list-compositions":
            return {"compositions": self._known(bindings)}
        if command == "start-session":
            return self._start_session(bindings, _seconds(options.get("--timeout"), SESSION_TIMEOUT))
        if command == "stop-session":
            return self._stop_session(bindings)
        if command == "start-composition":
            mode = options.get("--mode") or os.environ.get("ROBOTICKS_COMPOSITION_MODE") or "prod"
            return self._start_composition(bindings, names[0], mode)
        return self._stop_composition(bindings, names[0])

    def _start_session(self, bindings: Bindings, timeout: float) -> dict[str, Any]:
        session = self._look_for_session(bindings)
        if session is not None:
            return session
        end = time.monotonic() + timeout
        bindings.configured("start_session")
        while time.monotonic() < end and not self._stopping:
            session = self._look_for_session(bindings)
            if session is not None:
                return session
            time.sleep(0.02)
        raise RefusedError(f"no session within {timeout:g} s: get_active_session_id() of the bindings gives none")

    def _stop_session(self, bindings: Bindings) -> dict[str, Any]:
        session = self._look_for_session(bindings)
        if session is None:
            raise RefusedError("no session is active")
        bindings.documented("stop_active_session")
        end = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < end and not self._stopping:
            self._look_for_session(bindings)
            now = self._state.document["session"]
            if now["id"] != session["id"] or now["status"] != "active":
                return dict(session, status="completed")
            time.sleep(0.02)
        raise RefusedError(f"session {session['id']} is still active after stop_active_session() of the bindings")

    def _known(self, bindings: Bindings) -> list[dict[str, Any]]:
        if not bindings.has("list_compositions"):  # documented: what is found in the deployment folder
            try:
                folders = [each for each in (self._root / "deployment").iterdir() if each.is_dir()]
            except OSError:
                folders = []
            names = sorted(each.name for each in folders if each.name[0] not in "._")
            return [{"name": name, "modes": []} for name in names]
        listed = bindings.configured("list_compositions")
        try:
            known = [dict(each) if isinstance(each, dict) else {"name": str(each)} for each in listed or ()]
            return [{"name": str(each["name"]), "modes": list(each.get("modes") or ())} for each in known]
        except (TypeError, KeyError):
            name = self._settings["list_compositions"]
            raise RefusedError(f"{name}() of the bindings lists no compositions: {listed!r}") from None

    def _start_composition(self, bindings: Bindings, name: str, mode: str) -> dict[str, Any]:
        known = self._composition(name)
        if known is not None and known["status"] == "running":
            if known["mode"] != mode:
                raise RefusedError(f"composition {name} runs in mode {known['mode']}: stop it first")
            return known
        self._note(name, mode, "starting")
        try:
            bindings.configured("start_composition", name, mode)
        except RefusedError as error:
            self._note(name, mode, "failed", str(error))
            log("ERROR", "compositions", f"Composition {name} failed: {error}")
            raise
        log("INFO", "compositions", f"Composition {name} running (mode {mode})")
        return self._note(name, mode, "running")

    def _stop_composition(self, bindings: Bindings, name: str) -> dict[str, Any]:
        known = self._composition(name)
        bindings.configured("stop_composition", name)
        log("INFO", "compositions", f"Composition {name} stopped")
        return self._note(name, known["mode"] if known else "prod", "stopped")

    def _composition(self, name: str) -> dict[str, Any] | None:
        entries: list[dict[str, Any]] = self._state.document["compositions"]
        return next((each for each in entries if each["name"] == name), None)

    def _note(self, name: str, mode: str, status: str, error: str | None = None) -> dict[str, Any]:
        entry = {"name": name, "mode": mode, "status": status, "error": error}
        others = [each for each in self._state.document["compositions"] if each["name"] != name]
        self._state.update(compositions=[*others, entry])
        return entry

    def _obey(self, wakeup: int) -> None:
        """Wait for a signal; end the device manager here when the main thread does not come to it."""
        while True:
            number = os.read(wakeup, 1)[0]
            if number in (signal.SIGTERM, signal.SIGINT):
                break
        log("INFO", "device-manager", f"{signal.Signals(number).name}: stopping")
        self._stopping = True
        self._state.update(phase="stopping")
        self._jobs.put(None)
        time.sleep(BLOCKED)
        if not self._last.locked():
            log("WARNING", "device-manager", "a call of the bindings does not return: it is stopped under it")
        self._finish()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError), connection.makefile("rb") as stream:  # whoever asked may have gone
                request = stream.read(LARGEST_REQUEST)
                code, text = self._answer(request.decode("utf-8", "replace").split("\0"))
                connection.sendall(f"{code} {' '.join(text.split())}\n".encode("utf-8", "backslashreplace"))

    def _answer(self, arguments: list[str]) -> tuple[int, str]:
        try:
            command, names, options = parse(arguments)
            if command == "status":
                return 0, json.dumps(self._state.document)
            bindings = self._bindings
            if bindings is None or self._stopping:
                raise RefusedError("the device manager is " + ("stopping" if self._stopping else "only starting"))
            job = Job(lambda: self.execute(bindings, command, names, options))
            self._jobs.put(job)
            return 0, json.dumps(job.result(PATIENCE - 1))
        except UsageError as error:
            return USAGE, str(error)
        except RefusedError as error:
            return 1, str(error)
        except Exception as error:  # one request must not end the device manager
            for line in traceback.format_exc().splitlines():
                log("ERROR", "control", line)
            return 1, f"{arguments[0]}: internal error: {error!r} (the log says more)"

    def _finish(self, ending: Ending | None = None) -> NoReturn:
        """Stop the session and the device manager as the platform's own test runner does, and end this process."""
        self._last.acquire()  # for good: whoever comes second waits here for the end
        if ending is None:
            self._state.update(phase="stopping")
        else:
            log("ERROR", "device-manager", str(ending))
            self._state.update(phase="failed", error={"code": ending.code, "message": str(ending)})
        try:
            if self._bindings is not None:
                self._stop_all(self._bindings)
        except BaseException as error:
            log("ERROR", "device-manager", f"while stopping: {_said(error)}")
        if ending is None:
            log("INFO", "device-manager", "Stopped")
            self._state.update(phase="stopped")
        os._exit(ending.exit_code if ending else 0)  # threads of the bindings may never end by themselves

    def _stop_all(self, bindings: Bindings) -> None:
        try:
            session = bindings.ask("get_active_session_id")
            if session:
                bindings.documented("stop_active_session")
                self._look_for_session(bindings)
        except RefusedError as error:
            log("ERROR", "sessions", str(error))
        try:
            if bindings.ask("is_running"):
                bindings.documented("stop", timeout_seconds=STOP_TIMEOUT)
        except RefusedError as error:
            log("ERROR", "device-manager", str(error))


def parse(arguments: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """Return command, names and options of a ctl command; UsageError when it is none."""
    command, rest = arguments[0], iter(arguments[1:])
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r} (known: {', '.join(COMMANDS)})")
    count, known = COMMANDS[command]
    names: list[str] = []
    options: dict[str, str] = {}
    for argument in rest:
        option, has_value, value = argument.partition("=")
        if not argument.startswith("--"):
            names.append(argument)
        elif option not in known:
            raise UsageError(f"{command}: unknown option {option} (known: {', '.join(known) or 'none'})")
        else:
            options[option] = value if has_value else next(rest, "")
            if not options[option]:
                raise UsageError(f"{command}: {option} needs a value")
    if len(names) != count:
        raise UsageError(f"{command} takes {'1 name' if count else 'no names'}, got {len(names)}")
    _seconds(options.get("--timeout"), SESSION_TIMEOUT)
    return command, names, options


def ctl(root: Path, arguments: list[str]) -> int:
    """Send a command to the device manager of `root` and return the exit code (3: none is running)."""
    if not arguments:
        print(f"usage: device-manager ctl {' | '.join(COMMANDS)}", file=sys.stderr)
        return USAGE
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(_address(root))
            connection.sendall("\0".join(arguments).encode("utf-8", "surrogateescape"))
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("r", encoding="utf-8", errors="replace") as stream:
                answer = stream.read()
    except socket.timeout:  # noqa: UP041 - another one than TimeoutError before Python 3.10
        print(f"the device manager of {root} does not answer", file=sys.stderr)
        return ABSENT
    except OSError:
        print(f"no device manager is running in {root}", file=sys.stderr)
        return ABSENT
    code, _, text = answer.strip().partition(" ")
    if code not in ("0", "1", "2"):
        print(f"the device manager of {root} ended before it answered", file=sys.stderr)
        return ABSENT
    print(text, file=sys.stderr if int(code) else sys.stdout)
    return int(code)


def run(root: Path, settings: dict[str, Any], words: list[str]) -> int:
    """Be the device manager of `root`; return only when there is one already."""
    faulthandler.enable()  # a crash of native code leaves a trace in the log
    folder = root / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # whoever can enter it can command the device manager
    lock = os.open(folder / "device-manager.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"device-manager: a device manager is already running in {root}", file=sys.stderr)
        return ALREADY_RUNNING
    return Host(settings, words, root).main()


def main(arguments: list[str]) -> int:
    """Run one sub-command and return the exit code."""
    root = Path(os.environ.get("ROBOTICKS_ROOT") or "/opt/roboticks").absolute()
    if arguments[:1] == ["ctl"]:
        return ctl(root, arguments[1:])
    if arguments[:1] == ["run"] and len(arguments) > 1:
        return run(root, json.loads(arguments[1]), arguments[2:])
    print("usage: bindings-host.py run SETTINGS [WORD ...] | ctl COMMAND ...", file=sys.stderr)
    return USAGE


def _seconds(text: str | None, most: float) -> float:
    try:
        value = most if text is None else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise UsageError(f"--timeout must be a number of seconds, at most {most:g}, got {text!r}")
    return value


def _address(root: Path) -> str:
    """Return the address of the ctl socket: its path may be longer than the 108 bytes that an address holds."""
    folder = os.open(root / "run", os.O_PATH | os.O_DIRECTORY)  # stays open as long as this process lives
    return f"/proc/self/fd/{folder}/ctl.sock"


def _catch_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the number reaches the wakeup pipe by itself


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
