"""The local platform as a real process on a folder of the test, and devices that speak to it over HTTP and MQTT."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from roboticks_tasks.sim import topics
from tests.contract.mqtt import PATIENCE, Client
from tests.contract.pki import Certificate

PROJECT = "/api/v1/organizations/local/projects/local"
REPOSITORY = Path(__file__).parents[2]

T = TypeVar("T")


def spawn(folder: Path, *arguments: str, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a platform process; its log goes beside its folder."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "roboticks_tasks.sim.platform", "--directory", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
            **popen,
        )


class Platform:
    """A platform process that was asked to start; `ready` is its first line, with an `error` when it did not start."""

    def __init__(self, folder: Path, *arguments: str, **popen: Any) -> None:
        read, write = os.pipe()
        self.process = spawn(folder, "--ready-fd", str(write), *arguments, pass_fds=[write], **popen)
        os.close(write)
        self.folder = folder
        self.http = requests.Session()
        # A proxy of the environment must not see requests to this machine.
        self.http.trust_env = False
        with open(read, encoding="utf-8") as pipe:  # noqa: PTH123  a descriptor, no path
            line = pipe.readline()
        self.ready: dict[str, Any] = json.loads(line) if line else {}

    @property
    def log(self) -> str:
        """What the process has said."""
        return self.folder.with_suffix(".log").read_text(encoding="utf-8")

    @property
    def secret(self) -> str:
        """The project secret."""
        return (self.folder / "project-secret").read_text(encoding="utf-8").strip()

    @property
    def key(self) -> str:
        """The API key."""
        return (self.folder / "api-key").read_text(encoding="utf-8").strip()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the API key; a path that starts with / is whole, any other is the project's."""
        options.setdefault("headers", {"X-API-Key": self.key})
        whole = path if path.startswith("/") else f"{PROJECT}/{path}"
        return self.http.request(method, self.ready["url"] + whole, timeout=PATIENCE, **options)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET that must succeed."""
        response = self.call("GET", path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def register(self, serial: str, *, csr: str | None = None, **body: Any) -> requests.Response:
        """Ask for a registration as a test device."""
        whole = {
            "name": f"robot {serial}",
            "serial": serial,
            "csr": csr or request_pem()[1],
            "test_device": True,
            **body,
        }
        headers = {"X-Project-Secret": self.secret}
        return self.call("POST", "/api/v1/fleet/register", json=whole, headers=headers)

    def stop(self) -> int:
        """Ask the process to end, and return its exit code."""
        self.process.terminate()
        return self.process.wait(3 * PATIENCE)  # it stores first what its broker has acknowledged

    def kill(self) -> None:
        """Kill the process as the power switch would."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **popen: Any) -> Iterator[Platform]:
    """Run a platform inside the block."""
    platform = Platform(folder, *arguments, **popen)
    try:
        yield platform
    finally:
        platform.close()


@functools.cache
def request_pem(name: str = "whatever the device thinks") -> tuple[ec.EllipticCurvePrivateKey, str]:
    """Return a key and a certificate request (PEM) of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, request.public_bytes(serialization.Encoding.PEM).decode()


class Device:
    """A registered device with its certificate in `folder`, not connected yet."""

    def __init__(self, platform: Platform, folder: Path, serial: str) -> None:
        key, csr = request_pem(serial)
        response = platform.register(serial, csr=csr)
        assert response.ok, response.text
        self.registration = response.json()
        self.id: str = self.registration["device_id"]
        self.dsn: str = self.registration["dsn"]
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{self.dsn}.{kind}" for kind in ("crt", "key", "ca")]
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        texts = (
            self.registration["certificate"],
            key.private_bytes(*pem).decode(),
            self.registration["ca_certificate"],
        )
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="ascii")
        self.certificate = Certificate(name=self.dsn, certificate=paths[0], key=paths[1], ca=paths[2])

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """Be connected to the broker and subscribed to the replies, with a will as a device manager has it."""
        will = (topics.heartbeat(self.dsn), b'{"status": "offline"}')
        with Client(self.registration["mqtt"]["port"], self.certificate, will=will) as client:
            assert not client.refused
            client.subscribe(topics.session_response(self.dsn))
            yield Connection(self.dsn, client)


class Connection:
    """A connected device."""

    def __init__(self, dsn: str, client: Client) -> None:
        self.dsn, self.client = dsn, client

    def heartbeat(self, status: str = "online", **body: Any) -> None:
        """Send a heartbeat."""
        self.client.publish(topics.heartbeat(self.dsn), _json({"status": status, **body}), qos=0)

    def ask(self, **body: Any) -> dict[str, Any]:
        """Send a session request and wait for the reply."""
        self.client.publish(topics.sessions(self.dsn), _json(body))
        reply: dict[str, Any] = json.loads(self.client.take()[0])
        return reply

    def create(self, **body: Any) -> dict[str, Any]:
        """Ask for a session."""
        return self.ask(**{"action": "create", "name": "a run", "status": "active", **body})

    def log(self, *entries: dict[str, Any], boot: str = "boot", sequence: int = 0, session: str | None = None) -> None:
        """Send one batch of log messages."""
        body = {"session_id": session, "sequence": sequence, "boot_id": boot, "messages": entries}
        self.client.publish(topics.logs(self.dsn), _json(body))

    def settle(self) -> None:
        """Return when the platform has dealt with all that was sent before: it answers in order."""
        mark = uuid.uuid4().hex
        assert self.ask(action="settle", request_id=mark)["request_id"] == mark

    def silent(self) -> bool:
        """Tell that no reply is waiting."""
        with contextlib.suppress(queue.Empty):
            self.client.messages.get_nowait()
            return False
        return True


def entry(message: str, *, at: int = 1_700_000_000_000_000, level: str = "INFO", module: str = "arm") -> dict[str, Any]:
    """Return one log message as a device sends it."""
    return {"timestamp_us": at, "level": level, "module": module, "message": message}


def processes_naming(word: str) -> Sequence[str]:
    """Return the command lines of living processes that name `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line:
                found.append(line)
    return found


def _json(body: object) -> bytes:
    return json.dumps(body).encode()
