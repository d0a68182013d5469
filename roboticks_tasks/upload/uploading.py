"""upload_run: a finished run's results on the platform, with the files that they name; what is there is not sent again.

As the platform's own client does it: the files first, each to an address that the platform signs, then the results,
which name them. So results are sent once in the usual case; where a file came only later, they are sent again under
the same name, for the local platform replaces what it has of it (of a remote one nothing is documented).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from roboticks_tasks import state
from roboticks_tasks.backend.local import ensure_local, release_local
from roboticks_tasks.errors import ConfigError, RoboticksError, Verdict
from roboticks_tasks.models import BackendRef, RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.upload.delivery import Upload
from roboticks_tasks.upload.files import files_of
from roboticks_tasks.upload.sending import is_safe
from roboticks_tasks.upload.values import RECORD, UploadReport
from roboticks_tasks.waiting import Deadline

SHORTEST = 2.0
"""Seconds under which nothing is begun: a platform that has to be started needs a part of one."""


def upload_run(
    artifacts: Path,
    profile: Profile,
    *,
    backend: BackendRef | None = None,
    environ: Mapping[str, str],
    deadline: Deadline,
    files: bool = True,
    asked: bool = False,
) -> UploadReport:
    """Send the results in `artifacts` to the profile's platform, within `deadline`; never raises for what goes wrong.

    `backend` is the run's platform; without it, it is the profile's. What `[upload]` says counts unless somebody has
    `asked` for it; without `files` only the results go. The local platform is started for it if need be, and ended
    with its last user. The record upload.json tells what has been sent, so that a second call sends the rest.
    """
    if not asked and (why := _unwanted(profile)):
        return UploadReport(skipped=why)
    if deadline.remaining < SHORTEST:
        return UploadReport(skipped="there was no time left for it")
    try:
        run = state.load(artifacts, profile.name)
        with _platform(profile, backend, artifacts) as there:
            upload = Upload(artifacts, run, there, environ=environ, deadline=deadline)
            try:
                upload.go(files_of(artifacts) if files and _with_files(artifacts, profile, asked=asked) else [])
            finally:
                upload.close()
            return upload.report()
    except (RoboticksError, OSError) as error:
        return UploadReport(problems=(str(error),))


def _unwanted(profile: Profile) -> str | None:
    if profile.upload.results == "never":
        return "`upload.results` of the profile is `never`"
    if profile.upload.results == "auto" and profile.backend != "local":
        return "the platform is remote, and `upload.results` of the profile is not `always`"
    return None


def _with_files(artifacts: Path, profile: Profile, *, asked: bool) -> bool:
    if profile.upload.files != "failed" or asked:
        return asked or profile.upload.files == "always"
    try:
        result = msgspec.json.decode((artifacts / state.RESULT_FILE).read_bytes(), type=RunResult)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return True
    return result.verdict != Verdict.PASSED


@contextmanager
def _platform(profile: Profile, backend: BackendRef | None, artifacts: Path) -> Iterator[BackendRef]:
    """Lend the run's platform; a local one that has ended with the run comes up for the block.

    It is used under a name of its own: the run that is uploaded may still go on, and keeps it then.
    """
    if profile.backend != "local":
        url = (backend.url if backend is not None else profile.backend).rstrip("/")
        if not is_safe(url):
            raise ConfigError(f"backend {url} would get the key in clear, nothing was sent", remedy="use https://")
        yield BackendRef(url=url, organization=profile.organization, project=profile.project)
        return
    user = artifacts / RECORD
    there = ensure_local(profile.local_platform, run=user)
    try:
        yield there
    finally:
        release_local(Path(profile.local_platform.directory), run=user)
