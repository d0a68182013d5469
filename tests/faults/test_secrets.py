"""Whoever knows a secret may print it: no artifact, no screen and no list of processes shows it."""

from __future__ import annotations

import html
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from roboticks_tasks.redaction import MARK
from tests.contract.pty_board import PtyBoard, running_board
from tests.contract.sshd import running_sshd
from tests.e2e.bench import Bench, Done
from tests.e2e.board_profiles import manager, over_serial, over_ssh
from tests.unit.test_redaction import FORMS

VARIABLES = {
    "ROBOTICKS_PROJECT_SECRET": "pr0ject/<of>&the\"real'one",
    "ROBOTICKS_API_KEY": "k3y+of/the=real==one",
    "ROBOTICKS_UPLOAD_TOKEN": "upl0ad-t0ken-4711",
    "GITHUB_TOKEN": "ghs_QmFzZTY0aXNub3RhY2lwaGVy",
    "CORPORATE_PROXY": "http://robot:pr0xy-passw0rd@127.0.0.1:9",
    "LAB_PASSWORD": "l0gin-0f-the-board",
}
"""What the user has exported."""

DEVICE_SECRET = "d3vice-k3y-0123456789"
SECRETS = {
    **VARIABLES,
    "CORPORATE_PROXY": "pr0xy-passw0rd",
    "DEVICE_KEY": DEVICE_SECRET,
    "source": "s0urce-passw0rd",
    "power": "p0wer-s3cret",
    "option": "0ption-t0ken",
}

REDACTED = (
    *("pytest.log", "pytest.xml", "results.xml", "device-manager.log"),
    *("report.html", "timeline.jsonl", "platform.jsonl"),
)
"""What of a run tells what everybody has said."""

GIVEN = {"hardware_profiles", "deployment", "tests", "pty", "sshd"}
HISTORY = ("run", "step", "test", "outcome")
KEEPERS = {".roboticks", "root", "home"}
"""Folders of the bench: what the user has written; what platform, device and the ledger of runs keep."""

SIM = """
backend = "local"

[target]
kind = "local"
"""

SUITE = """
[deployment]
path = "deployment"

[tests]
command = "pytest -p no:cacheprovider tests"
timeout = 60
"""

COMPOSITION = """
name: LeakComposition
modes: [prod]
default_mode: prod
modules:
  - name: leak
    command: [python, leak.py]
"""

LEAK = """
import base64, json, os, time, urllib.parse
import zmq

known = dict(os.environ)
with open(f"/proc/{os.getppid()}/environ", "rb") as parents:
    known.update(each.decode().split("=", 1) for each in parents.read().split(b"\\0") if b"=" in each)
for name, value in known.items():
    print("INFO", name, value, flush=True)
    print("ERROR", name, repr(value), json.dumps(value), urllib.parse.quote(value, safe=""), flush=True)
    print("WARNING", name, base64.b64encode(f"robot:{value}".encode()).decode(), flush=True)
bus = zmq.Context.instance().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
named = {key: os.environ["ROBOTICKS_" + key.upper()] for key in ("module", "composition")}
ready = {"sequence": 1, "mode": "prod", "timestamp_us": time.time_ns() // 1000, **named}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(ready).encode()])
while True:
    bus.send_multipart([b"/leak/known", json.dumps(known).encode()])
    time.sleep(0.1)
"""

TESTS = """
import base64, json, logging, os, pathlib, sys, time

def secrets():
    run = json.loads(pathlib.Path(os.environ["ROBOTICKS_RUN"], "run.json").read_text())
    files = [run["backend"][name] for name in ("secret_file", "api_key_file")]
    return [*os.environ.values(), *(pathlib.Path(name).read_text().strip() for name in files)]

def test_prints_what_it_knows(device):
    for secret in secrets():
        print(secret, repr(secret), json.dumps(secret), base64.b64encode(secret.encode()).decode())
        print(secret, file=sys.stderr)
        logging.warning("%s", secret)
    assert False

def test_fails_with_what_it_knows(device):
    assert dict(os.environ) == {"known": secrets()}

def test_raises_what_it_knows(device, record_property):
    record_property("known", " ".join(secrets()))
    raise RuntimeError("\\n".join(secrets()))

def test_attaches_what_it_knows(artifacts):
    artifacts.attach("\\n".join(secrets()), "known.txt")
    artifacts.attach(json.dumps(secrets()).encode(), "known.json")
    run = pathlib.Path(os.environ["ROBOTICKS_RUN"])
    end = time.monotonic() + 5 * bool(json.loads((run / "run.json").read_text())["deployment"]["bus"])
    while time.monotonic() < end and "/leak/known" not in (run / "bus.jsonl").read_text():
        time.sleep(0.01)

def test_prints_it_bit_by_bit(device, capfd):
    with capfd.disabled():
        for secret in secrets():
            for letter in secret.encode():
                os.write(1, bytes((letter,)))
            os.write(1, b"\\n")
"""


class Watch:
    """Looks at the arguments of every process of a bench, for the block."""

    def __init__(self, bench: Bench) -> None:
        self.seen: set[str] = set()
        self._bench = bench
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self.seen.update(self._bench.running().values())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose user, device, composition and tests know secrets."""
    one = Bench(tmp_path)
    one.environment |= VARIABLES
    one.environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "ROBOTICKS_HISTORY": str(tmp_path / "history.sqlite3"),
    }
    for path, text in {
        "deployment/LeakComposition/composition.yaml": COMPOSITION,
        "deployment/LeakComposition/leak.py": LEAK,
        "tests/test_leak.py": TESTS,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


def device_manager(bench: Bench, kind: str = "simulated", more: str = "") -> str:
    """Return [device_manager] with a secret."""
    return manager(kind, bench.folder / "root", more=f'environment = {{ DEVICE_KEY = "{DEVICE_SECRET}" }}\n{more}')


def platform_secrets(bench: Bench) -> dict[str, str]:
    """Return what the local platform has made, if it has."""
    files = {path.name: path for path in (bench.folder / ".roboticks" / "platform").glob("*") if path.is_file()}
    return {name: files[name].read_text().strip() for name in ("project-secret", "api-key") if name in files}


def shows(content: bytes, secret: str) -> list[str]:
    """Return the forms in which `content` shows `secret`; what stands around the form, quotes say, does not count."""
    return [form for form, spell in FORMS.items() if spell(secret).strip("\"'b").removesuffix("=").encode() in content]


def stored(bench: Bench) -> dict[str, bytes]:
    """Return what the local platform and the history have of the results of runs: tables as text, and files."""
    platform = bench.folder / ".roboticks" / "platform"
    found = {path.name: path.read_bytes() for path in (platform / "files").iterdir()}
    tables = ("test_runs", "test_cases", "files")
    for path, names in ((platform / "platform.db", tables), (bench.folder / "history.sqlite3", HISTORY)):
        with closing(sqlite3.connect(path)) as database:
            for name in names:
                rows = database.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
                found[name] = "\n".join(str(value) for row in rows for value in row).encode()
    return found


def assert_secret(bench: Bench, done: Done, *, words: Iterable[str] = ()) -> None:
    """Fail with what shows a secret: files, but for those that are there to keep it, screen, and `words`."""
    told = {"stdout": done.out.encode(), "stderr": done.err.encode(), "arguments": "\n".join(words).encode()}
    kept: dict[str, bytes] = {}
    for path in bench.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(bench.folder).parts[0]
            if top not in GIVEN:
                (kept if top in KEEPERS else told)[str(path.relative_to(bench.folder))] = path.read_bytes()
    secrets = SECRETS | platform_secrets(bench)
    found = [(what, name, shows(text, secret)) for what, text in told.items() for name, secret in secrets.items()]
    assert [each for each in found if each[2]] == []
    keeping = {what for what, text in kept.items() for secret in secrets.values() if secret.encode() in text}
    assert {what for what in keeping if not is_private(bench.folder / what)} == set()


def is_private(path: Path) -> bool:
    """Tell whether only its owner can read a file."""
    return any(not stat.S_IMODE(each.stat().st_mode) & 0o077 for each in (path, path.parent))


@pytest.fixture(params=["sim", "ssh", "serial"])
def profile(request: pytest.FixtureRequest, bench: Bench) -> Iterator[str]:
    """A profile of each kind of target."""
    with ExitStack() as held:
        part = device_manager(bench)
        if request.param == "sim":
            text = f"{SIM}{part}{SUITE}"
        elif request.param == "ssh":
            sshd = held.enter_context(running_sshd(bench.folder / "sshd", more="AcceptEnv *\n"))
            (bench.folder / "home" / ".ssh").mkdir(parents=True)
            text = over_ssh(sshd, device_manager=part, suite=SUITE)
        else:
            password = VARIABLES["LAB_PASSWORD"]
            pty: PtyBoard = held.enter_context(
                running_board(bench.folder / "pty", powered=False, password=password, boot_log=["u-boot", password])
            )
            login = '[target.login]\npassword_variable = "LAB_PASSWORD"\n'
            text = over_serial(pty, device_manager=f"{login}{part}", suite=SUITE)
        yield bench.profile(request.param, text).stem


def test_nothing_of_a_run_in_which_everybody_prints_all_that_they_know_shows_a_secret(
    bench: Bench, profile: str
) -> None:
    with Watch(bench) as watch:
        done = bench.run("hil-test", "--profile", profile)
    folder = bench.latest_of(profile)
    assert done.code == 1, done.sentence
    assert bench.result(folder)["tests"]["failed"] == 3
    heard = ("bus.jsonl",) if bench.state(folder)["deployment"]["bus"] else ()
    assert heard or profile != "sim"
    for name in (*REDACTED, *heard):
        assert (folder / name).read_text().count(MARK) >= 10, name
    assert sum(path.read_text().count(MARK) for path in folder.glob("attachments/*/known*")) >= 10
    assert MARK in (folder / "tests.jsonl").read_text()
    if profile == "serial":
        assert MARK in (folder / "console.log").read_text()
    assert any("pytest" in words for words in watch.seen)
    assert_secret(bench, done, words=watch.seen)
    assert_secret(bench, bench.run("status", "--json", "--profile", profile))
    kept = stored(bench)
    for path in (bench.folder / "summary.md", folder / "report.html"):  # as people read them
        kept[path.name] = html.unescape(path.read_text()).encode()
        assert MARK.encode() in kept[path.name], path
    assert kept["test_cases"].count(MARK.encode()) > 0
    assert sum(MARK.encode() in content for content in kept.values()) >= 5  # the cases, and files
    for name, secret in (SECRETS | platform_secrets(bench)).items():
        assert {what: forms for what, content in kept.items() if (forms := shows(content, secret))} == {}, name


def test_words_that_stand_in_every_line_change_nothing_when_a_variable_calls_them_a_key(tmp_path: Path) -> None:
    words = "true default production testcase testsuite running session INFO device Registered 127.0.0.1"
    bench = Bench(tmp_path)
    bench.environment |= {f"CI_{number}_KEY": word for number, word in enumerate(words.split())}
    # What the platform's own variables hold is redacted, even such a word: but nothing depends on it.
    bench.environment |= {"ROBOTICKS_UPLOAD_TOKEN": "failures", "ROBOTICKS_API_KEY": "HelloWorldComposition"}
    done = bench.run("hil-test", "--profile", "sim")
    assert done.code == 0, done.err
    assert "INFO    Registered with DSN: SIM-" in done.err
    assert "device  | " in done.err
    assert bench.result()["tests"]["passed"] == 6
    assert {each["name"] for each in bench.result()["compositions"]} >= {"HelloWorldComposition"}


DYING = """#!/bin/sh
echo "fatal: $ROBOTICKS_PROJECT_SECRET $DEVICE_KEY" >&2
env >&2
echo "fatal: $ROBOTICKS_PROJECT_SECRET $DEVICE_KEY" >&2
exit 3
"""

BAD_MODULE = """
import os, sys
sys.exit(" ".join(open(f"/proc/{os.getppid()}/environ").read().split("\\0")))
"""

REFUSING = """["sh", "-c", 'echo "wrong password $2 $(env)" >&2; exit 1', "pdu", "--password", "p0wer-s3cret"]"""


def failing(bench: Bench, step: str) -> str:
    """Return a profile whose run fails in `step`, with a secret in what is said of it."""
    manager_part, suite, boards = device_manager(bench), SUITE, ""
    if step == "ensure_board":
        boards = f'[[boards]]\nid = "one"\npower = {{ on = {REFUSING} }}\n'
    elif step == "ensure_binary":
        url = "http://robot:s0urce-passw0rd@127.0.0.1:9/device-manager?token=0ption-t0ken"
        manager_part = device_manager(bench, "native", f'source = {{ url = "{url}" }}')
    elif step == "launch_dm":
        (bench.folder / "hardware_profiles").mkdir(exist_ok=True)
        program = bench.folder / "hardware_profiles" / "device-manager"
        program.write_text(DYING)
        program.chmod(0o755)
        manager_part = device_manager(bench, "native", f'source = {{ path = "{program}" }}')
    elif step == "deploy":
        (bench.folder / "deployment" / "LeakComposition" / "leak.py").write_text(BAD_MODULE)
    else:
        suite = SUITE.replace("pytest -p", "no-such-program --token=0ption-t0ken -p")
    return bench.profile("sim", f"{SIM}{boards}{manager_part}{suite}").stem


@pytest.mark.parametrize(
    ("step", "code"),
    [("ensure_board", 22), ("ensure_binary", 10), ("launch_dm", 11), ("deploy", 14), ("pytest_session", 15)],
)
def test_a_step_that_fails_with_a_secret_in_its_error_shows_none(bench: Bench, step: str, code: int) -> None:
    profile = failing(bench, step)
    done = bench.run("hil-test", "--profile", profile)
    assert done.code == code, done.err
    assert [each["name"] for each in bench.result()["steps"] if each["outcome"] == "failed"] == [step]
    assert_secret(bench, done)
    for words in (["status"], ["doctor", "--json"], ["teardown"]):
        assert_secret(bench, bench.run(*words, "--profile", profile))


def test_a_step_of_its_own_shows_no_secret_in_its_error(bench: Bench) -> None:
    profile = failing(bench, "launch_dm")
    assert bench.run("ensure-binary", "--profile", profile).code == 0
    done = bench.run("launch-dm", "--profile", profile)
    assert done.code == 11
    assert MARK in done.sentence
    assert_secret(bench, done)
    assert_secret(bench, bench.run("teardown", "--profile", profile))
    assert_secret(bench, bench.run("--help"))
