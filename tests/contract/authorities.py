"""Certificates of a platform's web server: a good one, and one for each way of being bad."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


class WebAuthorities:
    """One authority that a client trusts by the file `ca`, and one that nobody does."""

    def __init__(self, folder: Path) -> None:
        self.trusted, self.other = trustme.CA(organization_name="Trusted"), trustme.CA(organization_name="Elsewhere")
        self.ca = folder / "web-ca.pem"
        self.trusted.cert_pem.write_to_path(str(self.ca))

    def context(self, kind: str) -> ssl.SSLContext:
        """Return a server's context: "good", "other authority", "other host", "expired" or "not yet valid"."""
        authority = self.other if kind == "other authority" else self.trusted
        since, until = NOW - 30 * DAY, NOW + 30 * DAY
        if kind == "expired":
            until = NOW - 2 * DAY
        elif kind == "not yet valid":
            since = NOW + 2 * DAY
        host = "elsewhere.example" if kind == "other host" else "localhost"
        leaf = authority.issue_cert(host, not_before=since, not_after=until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context
