"""What a registered device keeps under <root>/etc/roboticks: its key, its certificate, the authority, its registration.

That the result of the registration is cached there is documented (as /etc/roboticks/); the file names are our choice.
The key is made here and never leaves the device: the platform gets a signing request. `cryptography` is imported only
for that, so a start from the cache does without.
"""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roboticks_tasks.sim.device_manager import endings, files

REGISTRATION_KEYS = ("device_id", "dsn", "test_device")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The folder of a device's credentials."""

    folder: Path

    @property
    def key(self) -> Path:
        """Return the path of the private key."""
        return self.folder / "device.key"

    @property
    def certificate(self) -> Path:
        """Return the path of the certificate that the platform signed."""
        return self.folder / "device.crt"

    @property
    def authority(self) -> Path:
        """Return the path of the certificate that the platform's broker is checked against."""
        return self.folder / "ca.crt"

    @property
    def registration(self) -> Path:
        """Return the path of what the platform said at registration; written last, so it vouches for the others."""
        return self.folder / "registration.json"

    def cached(self) -> dict[str, Any] | None:
        """Return the cached registration when it and its three files are there and usable, else None."""
        if not (self.key.is_file() and self.certificate.is_file() and self.authority.is_file()):
            return None
        try:
            document = json.loads(self.registration.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(document, dict) or not isinstance(document.get("dsn"), str):
            return None
        return document

    def store(self, answer: dict[str, Any]) -> None:
        """Keep the platform's answer to a registration; Ending when the files cannot be written."""
        self.forget()
        files.replace(self.certificate, answer["certificate"])
        files.replace(self.authority, answer["ca_certificate"])
        files.replace(self.registration, json.dumps({key: answer.get(key) for key in REGISTRATION_KEYS}) + "\n")

    def forget(self) -> None:
        """Drop the registration but not the key."""
        try:
            self.registration.unlink(missing_ok=True)
        except OSError as error:
            raise endings.storage(str(self.registration), error) from error

    def signing_request(self, serial: str) -> str:
        """Return a PEM signing request for this device's key, which is made when there is none."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key(), hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def _key(self) -> Any:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            return serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        except (OSError, ValueError):
            key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.forget()
        files.replace(self.key, pem.decode("ascii"))
        return key


def serial_of(root: Path) -> str:
    """Return the serial number of the simulated board: the same for the same root on the same machine.

    A device that lost its cache is thereby recognised by the platform and gets its DSN back.
    """
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return "sim-" + hashlib.sha256(f"{machine or socket.gethostname()}\0{root}".encode()).hexdigest()[:16]
