"""Certificates for tests, made by the platform's own authority in a folder."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from roboticks_tasks.sim.platform import authority
from roboticks_tasks.sim.topics import PLATFORM_ID


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Whose a certificate is, and where it, its key and the certificate of its authority are."""

    name: str
    certificate: Path
    key: Path
    ca: Path

    def client_context(self) -> ssl.SSLContext:
        """Return a client's TLS context that shows this certificate."""
        context = self.without_certificate()
        context.load_cert_chain(self.certificate, self.key)
        return context

    def without_certificate(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts the authority and shows nothing."""
        return ssl.create_default_context(cafile=str(self.ca))

    def server_context(self) -> ssl.SSLContext:
        """Return a server's TLS context that demands certificates of the same authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class Authority:
    """The platform's authority, its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._files = folder, authority.prepare(folder)
        self.server = self._certificate("server", self._files.server, self._files.server_key)
        self.platform = self._certificate(PLATFORM_ID, self._files.client, self._files.client_key)

    def issue(self, name: str) -> Certificate:
        """Return a fresh client certificate whose common name is `name`."""
        made = self._certificate(name, self._folder / f"{name}.crt", self._folder / f"{name}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = request.public_bytes(serialization.Encoding.PEM).decode()
        made.certificate.write_text(authority.sign(self._files, pem, dsn=name))
        encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
        made.key.touch(mode=0o600)
        made.key.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password))
        return made

    def _certificate(self, name: str, certificate: Path, key: Path) -> Certificate:
        return Certificate(name=name, certificate=certificate, key=key, ca=self._files.ca)
