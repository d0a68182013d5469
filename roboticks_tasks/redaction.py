"""Secrets are taken out of whatever is written or shown, in each form in which programs write them down.

A form is the secret itself, or as JSON, XML, a URL, a shell's word or Python's repr writes it, or its place within
base64: also as a part of what was encoded, like the password of a basic authentication. What was compressed,
encrypted, or cut into lines within the secret, is not recognised.

Which texts are secret is known by the names under which they are kept: `is_secret`.
"""

from __future__ import annotations

import binascii
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

Bytes = bytes  # the class below has a method of that name

LEAST = 6
"""Characters of the shortest secret that is redacted: a shorter one would wreck every text, and protects nothing."""

MARK = "***"
"""What stands for a secret; shorter than any."""

FRAME = re.compile(r"-----(BEGIN|END) [A-Z ]+-----")
"""The first and the last line of a key in PEM: they say nothing, and stand in many texts."""

NAMES = re.compile(
    r"((^|[_.-]|api|access|private|auth)keys?|secrets?|tokens?|passw(or)?ds?|passphrase|credentials?|signature|jwt"
    r"|sshpass|authorization|(^|[_.-])(pass|sig|pat)|[_.-](pwd|auth))(_v\d+)?[_\d]*$",
    re.IGNORECASE,
)
"""How the names of secrets end."""

OURS = ("ROBOTICKS_", "RBTK_")
"""How the names of the platform's variables begin."""

XML = (
    {"&": "&amp;", "<": "&lt;", ">": "&gt;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"},
)
"""How text, attributes and HTML are escaped."""

UNQUOTED = ("", "/", "!#$&'()*+,/:;=?@[]~")
"""What is left as it is in a URL besides letters, digits and "-._~": in a part, in a path, by `requests`."""


class Redactor:
    """Takes secrets out of texts; one of several lines is taken out line by line, as it may be printed.

    The content of each of `files` is a secret, too, as soon as there is one.
    """

    def __init__(self, secrets: Iterable[str], *, files: Iterable[Path] = ()) -> None:
        self.secrets: tuple[str, ...] = ()
        self.files = tuple(files)
        self._awaited = self.files
        self._learn(secrets)
        self._read_files()

    def __repr__(self) -> str:
        return f"Redactor(<{len(self.secrets)} secrets>)"

    def text(self, text: str) -> str:
        """Return `text` without the secrets."""
        if not (self.secrets or self._awaited):
            return text
        data = text.encode("utf-8", "surrogatepass")
        return self.bytes(data).decode("utf-8", "surrogatepass") if self.finds(data) else text

    def bytes(self, data: Bytes) -> Bytes:
        """Return `data`, the whole of something, without the secrets."""
        return self._pattern.sub(MARK.encode(), data) if self.finds(data) else data

    def finds(self, data: Bytes) -> bool:
        """Tell whether a secret stands in `data`."""
        if self._awaited:
            self._read_files()
        return any(probe in data for probe in self._probes)

    def sparing(self, text: str) -> Redactor:
        """Return one that leaves the secrets alone that stand in `text`, which is known to everybody."""
        return Redactor((secret for secret in self.secrets if secret not in text), files=self._awaited)

    def stream(self) -> Stream:
        """Return what redacts bytes that come in pieces."""
        return Stream(self)

    def split(self, data: Bytes) -> tuple[Bytes, Bytes]:
        """Return what is sure of `data`, redacted, and its end when that may be the beginning of a secret."""
        found_any = self.finds(data)
        if not self.secrets:
            return data, b""
        done: list[Bytes] = []
        at, cut = 0, self._beginning(data, 0)
        if found_any:
            for found in self._pattern.finditer(data):
                if found.start() >= cut:
                    break
                done += [data[at : found.start()], MARK.encode()]
                at = found.end()
                if at > cut:
                    cut = self._beginning(data, at)
        return b"".join((*done, data[at:cut])), data[cut:]

    def _learn(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        known = {line for line in lines if len(line) >= LEAST and not FRAME.fullmatch(line)}
        self.secrets = tuple(sorted(known.union(self.secrets)))
        forms = {form for secret in self.secrets for form in _forms(secret)[0]}
        self._forms = sorted(forms)
        self._longest = max(map(len, forms), default=0)
        self._firsts = re.compile(b"[%b]" % b"".join(sorted({re.escape(form[:1]) for form in forms})) if forms else b"")
        # One search for each is several times as fast as the expression, and mostly there is nothing to find.
        self._probes = sorted({form for secret in self.secrets for form in _forms(secret)[1]})
        self.__dict__.pop("_pattern", None)

    @cached_property
    def _pattern(self) -> re.Pattern[Bytes]:
        # Of "ab" and "abc" the longer one is to be found.
        return re.compile(b"|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))

    def _read_files(self) -> None:
        """Learn what stands in the files by now; they are replaced as a whole, so one that is there is complete."""
        for path in self._awaited:
            with suppress(OSError, UnicodeDecodeError):
                if text := path.read_text(encoding="utf-8"):
                    self._awaited = tuple(each for each in self._awaited if each != path)
                    self._learn([text])

    def _beginning(self, data: Bytes, start: int) -> int:
        """Return where, from `start` on, the last bytes begin that a secret may begin with; the end if none do."""
        for found in self._firsts.finditer(data, max(start, len(data) - self._longest + 1)):
            rest = data[found.start() :]
            at = bisect_left(self._forms, rest)
            at += at < len(self._forms) and self._forms[at] == rest  # what is complete is no beginning
            if at < len(self._forms) and self._forms[at].startswith(rest):
                return found.start()
        return len(data)


class Stream:
    """Redacts bytes that come in pieces, with the result that the whole would have had."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be said by now: all, but for the beginning of a secret whose rest may come."""
        given, self._held = self._redactor.split(self._held + data if self._held else data)
        return given

    def close(self) -> bytes:
        """Return what was held back: nothing more comes."""
        held, self._held = self._held, b""
        return self._redactor.bytes(held)


def is_secret(name: str) -> bool:
    """Tell whether a variable, an option or a key of this name holds a secret."""
    return bool(NAMES.search(name))


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the platform's secrets, for programs that have no use for them."""
    return {name: value for name, value in environ.items() if not (name.startswith(OURS) and is_secret(name))}


@cache
def _forms(secret: str) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return each way in which `secret` may be written, and of these the ones that hold no other."""
    forms = frozenset(_spell(secret))
    return forms, frozenset(form for form in forms if not any(other in form for other in forms - {form}))


def _spell(secret: str) -> Iterator[bytes]:
    raw = _raw(secret)
    said, shown = repr(secret)[1:-1], repr(raw)[2:-1]
    spelled = {secret, said, shown, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    spelled |= {text.replace("'", escaped) for text in (secret, said, shown) for escaped in ("\\'", "'\"'\"'", "'\\''")}
    spelled |= {_translated(text, table) for text in spelled for table in XML}
    for text in spelled:
        yield text.encode("utf-8", "surrogatepass")
    yield raw
    for safe in UNQUOTED:
        for quoted in (_quoted(raw, safe, b"%%%02X"), _quoted(raw, safe, b"%%%02x")):
            yield quoted
            yield quoted.replace(b"%20", b"+")
    yield from _within_base64(raw)


def _raw(text: str) -> bytes:
    """Return the bytes that `text` stands for; Python reads those that are not UTF-8 as lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _translated(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)


def _quoted(raw: bytes, safe: str, escape: bytes) -> bytes:
    """Return `raw` as a part of a URL."""
    kept = safe.encode() + b"-._~"
    letters = (bytes((byte,)) for byte in raw)
    return b"".join(letter if letter.isalnum() or letter in kept else escape % ord(letter) for letter in letters)


def _within_base64(raw: bytes) -> Iterator[bytes]:
    """Yield the characters that `raw` alone decides in base64, at each of the three places where it can begin."""
    for before, mixed in ((0, 0), (1, 2), (2, 3)):
        text = binascii.b2a_base64(bytes(before) + raw, newline=False)[mixed : 8 * (before + len(raw)) // 6]
        yield text
        yield text.translate(bytes.maketrans(b"+/", b"-_"))
    yield binascii.b2a_base64(raw, newline=False)


NOTHING = Redactor(())
"""Knows no secret, and changes nothing."""
