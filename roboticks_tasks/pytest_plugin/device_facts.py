"""The device under test, as tests see it."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from roboticks_tasks.backend.certificates import identity, parse

MOST = 65_536
"""Bytes of a file that may be a certificate."""


class Certificate(NamedTuple):
    """Who the device says it is: the subject's common name, serial number and SHA-256 fingerprint as `openssl x509`
    prints them (hexadecimal, upper case; the fingerprint without colons), and from when until when (UTC).
    """

    subject: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


class Device:
    """The device under test: its serial number on the platform, the board it is, and what that board has."""

    def __init__(
        self, dsn: str, *, board_id: str, features: tuple[str, ...], read_certificate: Callable[[], bytes]
    ) -> None:
        self.dsn = dsn
        self.board_id = board_id
        self.features = features
        self._read_certificate = read_certificate

    def __repr__(self) -> str:
        return f"Device(dsn={self.dsn!r}, board_id={self.board_id!r}, features={self.features!r})"

    @cached_property
    def certificate(self) -> Certificate:
        """The device's certificate, read on the board when it is first asked for; AssertionError when it is none."""
        return read(self._read_certificate())


def read(content: bytes) -> Certificate:
    """Describe the first certificate in PEM, or the one in DER; AssertionError when there is none."""
    try:
        der = _der(content)
        (subject, number), found = identity(der), parse(der)
    except ValueError as error:
        raise AssertionError(f"the device's certificate cannot be read: {error}") from error
    digits = f"{number:X}"
    return Certificate(
        subject=subject,
        serial=digits.zfill(len(digits) + len(digits) % 2),
        fingerprint=hashlib.sha256(der).hexdigest().upper(),
        not_before=found.since,
        not_after=found.until,
    )


def _der(content: bytes) -> bytes:
    begin = content.find(ssl.PEM_HEADER.encode())
    if begin < 0:
        return content
    end = content.find(ssl.PEM_FOOTER.encode(), begin)
    if end < 0:
        raise ValueError("it is cut off")
    return ssl.PEM_cert_to_DER_cert(content[begin : end + len(ssl.PEM_FOOTER)].decode("ascii"))
