"""What a certificate says of itself, without a library: `ssl` shows only those that it trusts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple

SEQUENCE, EXPLICIT_VERSION, EXTENSIONS, UTC_TIME = 0x30, 0xA0, 0xA3, 0x17
DNS_NAME, IP_ADDRESS = 0x82, 0x87
COMMON_NAME, ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
ALTERNATIVE_NAMES = b"\x55\x1d\x11"


class Certificate(NamedTuple):
    """Who made it, for whom, and when it is valid (UTC)."""

    issuer: str
    names: tuple[str, ...]
    since: datetime
    until: datetime


def parse(der: bytes) -> Certificate:
    """Describe a certificate in DER (RFC 5280, section 4.1); ValueError when it is none."""
    try:
        fields = _fields(der)
        _serial, _algorithm, (_, issuer), (_, validity), (_, subject), *rest = fields
        (since, until) = (_time(kind, value) for kind, value in _values(validity))
        extensions = next((value for kind, value in rest if kind == EXTENSIONS), b"")
        names = tuple(_alternative_names(extensions)) or tuple(filter(None, [_name(subject)]))
        return Certificate(_name(issuer), names, since, until)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError("not a certificate in DER") from error


def identity(der: bytes) -> tuple[str, int]:
    """Return the common name and the serial number of a certificate in DER; ValueError when it is none."""
    try:
        (_, serial), _algorithm, _issuer, _validity, (_, subject), *_ = _fields(der)
        return _name(subject), int.from_bytes(serial, "big")
    except (IndexError, StopIteration) as error:
        raise ValueError("not a certificate in DER") from error


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    [(_, certificate)] = _values(der)
    fields = list(_values(next(_values(certificate))[1]))
    return fields[1:] if fields[0][0] == EXPLICIT_VERSION else fields


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags and contents of the values that lie one behind the other in `der`."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise ValueError("not DER: a value is longer than what holds it")
        yield tag, der[at : at + length]
        at += length


def _name(name: bytes) -> str:
    """Return the common name in a distinguished name, else its organization."""
    found = {}
    for _, group in _values(name):
        for _, pair in _values(group):
            (_, kind), (_, value), *_ = _values(pair)
            found[kind] = value.decode("utf-8", "replace")
    return found.get(COMMON_NAME) or found.get(ORGANIZATION, "")


def _time(kind: int, value: bytes) -> datetime:
    pattern = "%y%m%d%H%M%SZ" if kind == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(value.decode("ascii"), pattern).replace(tzinfo=UTC)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, every in _values(extensions):
        for _, extension in _values(every):
            (_, kind), *_, (_, value) = _values(extension)
            if kind != ALTERNATIVE_NAMES:
                continue
            for tag, name in _values(next(_values(value))[1]):
                if tag == DNS_NAME:
                    yield name.decode("ascii", "replace")
                elif tag == IP_ADDRESS:
                    yield str(ip_address(name))
