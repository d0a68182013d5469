"""Why a platform cannot be reached, in words: what was seen, and what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from roboticks_tasks.backend import certificates
from roboticks_tasks.backend.calls import LARGEST_ANSWER, BusyError, LargeError, SlowError, within

CHECK = "check the URL and the network"
LOOK_SECONDS = 2.0
"""Seconds for a second look at a certificate that was refused."""

EXPIRED, NOT_YET_VALID, WRONG_HOST, WRONG_ADDRESS = 10, 9, 62, 64
"""OpenSSL's codes, https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/."""


class Reason(NamedTuple):
    """What was seen, and what to do about it."""

    seen: str
    remedy: str


def reason_of(error: BaseException, url: str) -> Reason:
    """Explain why a call to `url` did not come to an answer."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate(cause, url)
    for cause in causes:
        found = _explain(cause, url)
        if found is not None:
            return found
    return Reason(f"{type(error).__name__}: {str(error)[:200]}", CHECK)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it stands for: libraries wrap one another's errors in several ways."""
    waiting, known = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        inner = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        waiting += [each for each in inner if isinstance(each, BaseException)]


def _explain(cause: BaseException, url: str) -> Reason | None:
    name, host = type(cause).__name__, urlsplit(url).hostname or url
    if isinstance(cause, LargeError):
        return Reason(f"its answer is larger than {LARGEST_ANSWER // 1_000_000} MB", "see who answers there")
    if isinstance(cause, BusyError):
        return Reason(str(cause), "see whether it is overloaded, and run again")
    if isinstance(cause, SlowError):
        return Reason(f"it gave no whole answer in time: {cause}", "see whether it is overloaded, and run again")
    if name == "ProxyError":
        return Reason("the proxy in between refuses, or is not there", f"check HTTPS_PROXY, or name {host} in NO_PROXY")
    if name in {"ConnectTimeout", "ConnectTimeoutError"}:
        return Reason("no connection in time: nothing answers at that address", CHECK)
    if name in {"ReadTimeout", "ReadTimeoutError"} or isinstance(cause, TimeoutError):
        return Reason("it takes the connection and does not answer", "see whether it is overloaded, and run again")
    if isinstance(cause, socket.gaierror):
        return Reason(f"the name {host} is not known: {cause.strerror}", CHECK)
    if isinstance(cause, ConnectionRefusedError):
        return Reason("connection refused: nothing listens there", CHECK)
    if isinstance(cause, ssl.SSLError) and "EOF" not in str(cause):
        return Reason(f"no TLS with it: {cause.reason or cause}", "check the URL's scheme and port")
    if name in {"IncompleteRead", "ChunkedEncodingError", "InvalidChunkLength"}:
        return Reason("it hung up in the middle of its answer", "run again; see whether it, or a proxy, is overloaded")
    if isinstance(cause, ConnectionError | ssl.SSLError) or name == "RemoteDisconnected":
        return Reason("it hung up without an answer", "run again; see whether it, or a proxy, is overloaded")
    return None


def _certificate(error: ssl.SSLCertVerificationError, url: str) -> Reason:
    """Say what is wrong with a certificate; who made it, for whom and until when is read by a second look."""
    seen = _look(url)
    now = f"this machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if error.verify_code == EXPIRED:
        until = f" on {seen.until:%Y-%m-%d %H:%M} UTC" if seen else ""
        return Reason(f"its certificate expired{until}, {now}", "renew the certificate, or set the clock")
    if error.verify_code == NOT_YET_VALID:
        since = f" before {seen.since:%Y-%m-%d %H:%M} UTC" if seen else ""
        return Reason(f"its certificate is not valid{since}, {now}", "set the clock: `timedatectl set-ntp true`")
    if error.verify_code in {WRONG_HOST, WRONG_ADDRESS}:
        host = urlsplit(url).hostname
        names = f", only for {', '.join(seen.names[:5])}" if seen and seen.names else ""
        return Reason(f"its certificate is not valid for {host}{names}", "correct the URL, or see who answers there")
    issuer = f" by {seen.issuer}" if seen and seen.issuer else ""
    return Reason(
        f"its certificate is signed{issuer}, which this machine does not trust ({error.verify_message})",
        "see who answers there (a proxy?); if it may be trusted, name its CA's file in REQUESTS_CA_BUNDLE",
    )


def _look(url: str) -> certificates.Certificate | None:
    """Fetch the certificate that was refused, to describe it; None when that fails."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it

    def fetch() -> bytes | None:
        host, port = parts.hostname or "", parts.port or 443
        with (
            socket.create_connection((host, port), timeout=LOOK_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return secure.getpeercert(binary_form=True)

    with suppress(OSError, SlowError, ValueError):
        content = within(LOOK_SECONDS, fetch)
        return certificates.parse(content) if content else None
    return None
