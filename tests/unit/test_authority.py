"""The certificate authority: what it puts into certificates, and what it refuses to sign."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roboticks_tasks.sim.platform import authority
from roboticks_tasks.sim.topics import PLATFORM_ID

DSN = "SIM-0A1B2C3D"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> authority.Files:
    return authority.prepare(tmp_path_factory.mktemp("authority"))


def csr(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | None = None,
    *,
    name: str = "anything",
) -> str:
    """Return a request that asks for much: a name, to be an authority, to be a server."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def signed(files: authority.Files, request: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.sign(files, request, dsn=DSN).encode())


def test_the_subject_is_the_dsn_whatever_was_asked_for(files: authority.Files) -> None:
    certificate = signed(files, csr(name=PLATFORM_ID))
    assert certificate.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DSN)])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"urn:roboticks:device:{DSN}")]


def test_a_device_certificate_is_for_clients_only(files: authority.Files) -> None:
    extensions = signed(files, csr()).extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


def test_the_certificate_holds_the_key_of_the_request(files: authority.Files) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert signed(files, csr(key)).public_key() == key.public_key()


def test_a_clock_that_is_five_minutes_late_still_accepts_the_certificate(files: authority.Files) -> None:
    certificate = signed(files, csr())
    age = datetime.now(UTC) - certificate.not_valid_before_utc
    assert timedelta(minutes=5) <= age < timedelta(minutes=6)
    assert certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=365)


def test_our_own_certificates_have_their_names_and_purposes(files: authority.Files) -> None:
    server, client = load(files.server), load(files.client)
    assert client.subject.rfc4514_string() == f"CN={PLATFORM_ID}"
    purposes = [
        list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for certificate in (server, client)
    ]
    assert purposes == [[ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_every_certificate_names_its_own_key_and_the_authoritys(files: authority.Files) -> None:
    ca = load(files.ca)
    ours = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    for certificate in (ca, load(files.server), load(files.client), signed(files, csr())):
        extensions = certificate.extensions
        issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert issuer == ours
        assert own == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
        certificate.verify_directly_issued_by(ca)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, *, name: str = "localhost") -> dict[str, object]:
    """Connect two contexts in memory; return the client's certificate as the server sees it, or raise SSLError."""
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(one, other, server_side=True),
        client.wrap_bio(other, one, server_hostname=name),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[0].getpeercert()
    assert certificate
    return dict(certificate)


def strict(purpose: int, files: authority.Files, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(files.ca)
    context.load_cert_chain(certificate, key)
    return context


def test_strict_checks_of_newer_pythons_accept_all_certificates(files: authority.Files, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    paths = tmp_path / "device.crt", tmp_path / "device.key"
    paths[0].write_text(authority.sign(files, csr(key), dsn=DSN), encoding="ascii")
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(*pem))
    server = strict(ssl.PROTOCOL_TLS_SERVER, files, files.server, files.server_key)
    for certificate, private in (paths, (files.client, files.client_key)):
        assert handshake(server, strict(ssl.PROTOCOL_TLS_CLIENT, files, certificate, private))
    with pytest.raises(ssl.SSLError, match="purpose"):
        handshake(server, strict(ssl.PROTOCOL_TLS_CLIENT, files, files.server, files.server_key))


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "\u00e4"]
)
def test_what_is_no_request_is_refused_in_one_sentence(files: authority.Files, text: str) -> None:
    with pytest.raises(authority.BadRequestError, match=r"^csr: is not a certificate signing request in PEM$"):
        authority.sign(files, text, dsn=DSN)


def test_weak_and_unusual_keys_are_refused(files: authority.Files) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  it is to be refused
    for key in (weak, ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(authority.BadRequestError, match=r"^csr: its key must be"):
            authority.sign(files, csr(key), dsn=DSN)


def test_a_second_start_changes_nothing_and_needs_no_cryptography(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in authority.prepare(tmp_path)}
    program = (
        "import sys; from pathlib import Path; from roboticks_tasks.sim.platform import authority;"
        "authority.prepare(Path(sys.argv[1])); sys.exit('cryptography' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program, tmp_path], env=environment).returncode == 0
    assert {path: path.read_bytes() for path in first} == first


def test_keys_are_private(files: authority.Files) -> None:
    for path in (files.ca_key, files.server_key, files.client_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_certificate_with_more_than_a_year_left_is_kept_however_old_its_file_looks(tmp_path: Path) -> None:
    files = authority.prepare(tmp_path)
    before = files.server.read_bytes()
    os.utime(files.server, (0, 0))
    authority.prepare(tmp_path)
    assert files.server.read_bytes() == before


def test_an_old_certificate_is_made_anew_with_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = authority.prepare(tmp_path)
    before = load(files.server)
    key, ca = files.server_key.read_bytes(), files.ca.read_bytes()
    # A copied folder has files that look young: what counts is the date inside.
    now = before.not_valid_after_utc.timestamp() - 364 * 86400
    os.utime(files.server, (now, now))
    monkeypatch.setattr("time.time", lambda: now)
    authority.prepare(tmp_path)
    after = load(files.server)
    assert after.serial_number != before.serial_number
    assert (files.server_key.read_bytes(), files.ca.read_bytes()) == (key, ca)


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"])
def test_after_the_loss_of_any_file_all_fit_together_again(tmp_path: Path, lost: str) -> None:
    authority.prepare(tmp_path)
    (tmp_path / lost).unlink()
    files = authority.prepare(tmp_path)
    server = strict(ssl.PROTOCOL_TLS_SERVER, files, files.server, files.server_key)
    assert handshake(server, strict(ssl.PROTOCOL_TLS_CLIENT, files, files.client, files.client_key))


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, name: str) -> None:
    files = authority.prepare(tmp_path)
    (tmp_path / name).write_bytes(b"no longer what it was")
    with pytest.raises(authority.DamagedError, match=name):
        authority.sign(files, csr(), dsn=DSN)
    assert (tmp_path / name).read_bytes() == b"no longer what it was"
