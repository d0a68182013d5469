"""The platform's certificate authority: makes its own files, and signs the requests of devices.

The authority sets every subject and extension itself; of a request it takes the public key and nothing else. The
certificates satisfy VERIFY_X509_STRICT, which Python 3.13 switches on. `cryptography` is imported at the first need: a
start with all files in place does without it.
"""

from __future__ import annotations

import re
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from roboticks_tasks.sim.platform.directory import write
from roboticks_tasks.sim.topics import PLATFORM_ID

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

AUTHORITY_DAYS = 3650
LEAF_DAYS = 730
RENEW_SECONDS = 365 * 86400
"""Our own certificates are made anew at a start when less than this is left of them: half their life. So they are when
they are not valid yet: the clock was wrong when they were made."""

VALIDITY = re.compile(rb"\x17\x0d(\d{12})Z\x17\x0d(\d{12})Z")
"""The validity of a certificate in DER: two UTCTime values (until 2049), notBefore and notAfter."""

CLOCK_SKEW = timedelta(minutes=5)
SERVER_NAME = "localhost"
RSA_BITS = 2048


class BadRequestError(ValueError):
    """The certificate request cannot be signed; the message is one sentence."""


class DamagedError(Exception):
    """A file of the authority is not what it was; the message names it."""


class Files(NamedTuple):
    """Where the certificates (PEM) and their keys (PEM, PKCS8, mode 0600) are."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def files(folder: Path) -> Files:
    """Name the authority's files in `folder`."""
    pairs = (folder / f"{name}.{kind}" for name in ("ca", "server", "client") for kind in ("crt", "key"))
    return Files(*pairs)


def prepare(folder: Path) -> Files:
    """Make what is missing: the authority, the broker's server certificate and the platform's client certificate.

    Keys are written before their certificates, so that a certificate on disk always has its key. Raises OSError and
    DamagedError.
    """
    paths = files(folder)
    if _stale(paths.ca, paths.ca_key):
        for path in (paths.server, paths.client):
            path.unlink(missing_ok=True)
        paths.ca.unlink(missing_ok=True)
        _create(paths)
    if _stale(paths.server, paths.server_key):
        public = _key(paths.server_key).public_key()
        write(paths.server, _issue(paths, public, name=SERVER_NAME, server=True))
    if _stale(paths.client, paths.client_key):
        public = _key(paths.client_key).public_key()
        write(paths.client, _issue(paths, public, name=PLATFORM_ID))
    return paths


def sign(paths: Files, csr: str, *, dsn: str) -> str:
    """Return a client certificate (PEM) named `dsn` for the key in `csr` (PEM); raise BadRequestError."""
    return _issue(paths, check(csr), name=dsn).decode()


def check(csr: str) -> CertificatePublicKeyTypes:
    """Return the public key of a certificate request (PEM) that its sender owns; raise BadRequestError."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key, signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadRequestError("csr: is not a certificate signing request in PEM") from error
    if not signed:
        raise BadRequestError("csr: its signature does not fit its key")
    strong = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    if not (strong or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS)):
        raise BadRequestError(f"csr: its key must be of the curve P-256 or P-384, or RSA of at least {RSA_BITS} bits")
    return key


def warm() -> None:
    """Import what signing needs, so that the first registration does not wait for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: F401

    _ = x509


def _stale(certificate: Path, key: Path) -> bool:
    if not (certificate.exists() and key.exists()):
        return True
    # Not the file's age: a copied folder has young files. And not with `cryptography`, whose import takes long.
    try:
        found = VALIDITY.search(ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii")))
        words = found.groups() if found else ()
        times = [datetime.strptime(each.decode(), "%y%m%d%H%M%S").replace(tzinfo=UTC) for each in words]
    except ValueError:
        # Damaged: whoever loads it says so, nothing is replaced silently.
        return False
    if not times:
        return False
    since, until = (each.timestamp() for each in times)
    return time.time() < since or until - time.time() < RENEW_SECONDS


def _key(path: Path) -> EllipticCurvePrivateKey:
    """Load the key in `path`; make it when there is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise DamagedError(f"{path} is damaged: remove the folder to start afresh") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise DamagedError(f"{path} does not hold an EC key: remove the folder to start afresh")
        return key
    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write(path, pem, mode=0o600)
    return made


def _create(paths: Files) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = _key(paths.ca_key)
    # A name of its own per authority: two local platforms must not be taken for one another.
    name = _name(f"Roboticks local platform {x509.random_serial_number():X}"[:40])
    certificate = (
        _builder(name, days=AUTHORITY_DAYS)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write(paths.ca, certificate.public_bytes(serialization.Encoding.PEM))


def _issue(paths: Files, public: CertificatePublicKeyTypes, *, name: str, server: bool = False) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _key(paths.ca_key)
    try:
        authority = x509.load_pem_x509_certificate(paths.ca.read_bytes())
    except ValueError as error:
        raise DamagedError(f"{paths.ca} is damaged: remove the folder to start afresh") from error
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"urn:roboticks:device:{name}")]
    if server:
        names = [x509.DNSName(SERVER_NAME), x509.IPAddress(IPv4Address("127.0.0.1"))]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        _builder(_name(name), days=LEAF_DAYS)
        .issuer_name(authority.subject)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, *, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(subject).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - CLOCK_SKEW).not_valid_after(now + timedelta(days=days))


def _usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
