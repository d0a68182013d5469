"""Which change a run tests, and which CI job runs it: from the CI system's variables, else from git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.models import Provenance

PATIENCE = 5.0
"""Seconds that git may take: on a tree of millions of files it is not worth more."""


class _System(NamedTuple):
    """The variables of a CI system; where several names stand, the first one that is set counts."""

    sign: str
    name: str
    commit: tuple[str, ...] = ()
    branch: tuple[str, ...] = ()
    pull_request: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    job: tuple[str, ...] = ()


SYSTEMS = (
    _System(
        sign="GITHUB_ACTIONS",
        name="github-actions",
        commit=("GITHUB_SHA",),
        branch=("GITHUB_HEAD_REF", "GITHUB_REF_NAME"),
        pull_request=("GITHUB_REF",),
        job=("GITHUB_JOB",),
    ),
    _System(
        sign="GITLAB_CI",
        name="gitlab-ci",
        commit=("CI_COMMIT_SHA",),
        branch=("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME"),
        pull_request=("CI_MERGE_REQUEST_IID",),
        url=("CI_JOB_URL",),
        job=("CI_JOB_NAME",),
    ),
    _System(
        sign="BUILDKITE",
        name="buildkite",
        commit=("BUILDKITE_COMMIT",),
        branch=("BUILDKITE_BRANCH",),
        pull_request=("BUILDKITE_PULL_REQUEST",),
        url=("BUILDKITE_BUILD_URL",),
        job=("BUILDKITE_LABEL", "BUILDKITE_STEP_KEY"),
    ),
    _System(
        sign="TF_BUILD",
        name="azure-pipelines",
        commit=("BUILD_SOURCEVERSION",),
        branch=("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH"),
        pull_request=("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"),
        job=("SYSTEM_JOBDISPLAYNAME", "AGENT_JOBNAME"),
    ),
    _System(
        sign="JENKINS_URL",
        name="jenkins",
        commit=("GIT_COMMIT",),
        branch=("CHANGE_BRANCH", "BRANCH_NAME", "GIT_BRANCH"),
        pull_request=("CHANGE_ID",),
        url=("BUILD_URL",),
        job=("JOB_NAME",),
    ),
    _System(
        sign="CIRCLECI",
        name="circleci",
        commit=("CIRCLE_SHA1",),
        branch=("CIRCLE_BRANCH",),
        pull_request=("CIRCLE_PR_NUMBER",),
        url=("CIRCLE_BUILD_URL",),
        job=("CIRCLE_JOB",),
    ),
    _System(sign="CI", name="unknown"),
)
"""How each CI system tells of itself, the more particular ones first; signs and order as the platform's client has."""


def provenance(environ: Mapping[str, str], directory: Path) -> Provenance:
    """Return what is known of the change in `directory` and of the job: never an error, unknown parts are None."""
    system = next((each for each in SYSTEMS if environ.get(each.sign)), None)
    commit, branch, dirty = _ask_git(directory)
    if system is None:
        return Provenance(commit=commit, branch=branch, is_dirty=dirty)

    def word(names: tuple[str, ...]) -> str | None:
        return next((environ[name] for name in names if environ.get(name)), None)

    named = re.sub(r"\Arefs/(heads|tags)/", "", word(system.branch) or "")  # Azure writes it in full
    # A job may check out another repository than the one that has triggered it: what is on disk is what is tested.
    return Provenance(
        commit=commit or word(system.commit),
        branch=named or branch,
        is_dirty=dirty,
        pull_request=_number(word(system.pull_request)),
        ci=system.name,
        url=word(system.url) or _job_page(environ, system),
        job=word(system.job),
    )


def _job_page(environ: Mapping[str, str], system: _System) -> str | None:
    if system.name == "github-actions":
        names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
        template = "{}/{}/actions/runs/{}"
    elif system.name == "azure-pipelines":
        names = ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_BUILDID")
        template = "{}{}/_build/results?buildId={}"
    else:
        return None
    words = [environ.get(name) for name in names]
    return template.format(*words) if all(words) else None


def _number(word: str | None) -> int | None:
    """Return a pull request's number: the variable's, or the one in `refs/pull/N/merge` (documented)."""
    found = re.fullmatch(r"(?:refs/pull/)?(\d{1,18})(?:/\w+)?", word or "")
    return int(found[1]) if found else None


def _ask_git(directory: Path) -> tuple[str | None, str | None, bool | None]:
    """Return commit, branch and whether tracked files have been changed; None where git cannot say."""
    # Not even to refresh the index: who is killed with its lock in his hands leaves a tree in which git does nothing.
    words = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(
            words, cwd=directory, capture_output=True, timeout=PATIENCE, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None, None, None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    heads = {key: value for key, _, value in (line[2:].partition(" ") for line in lines if line.startswith("# "))}
    commit, branch = heads.get("branch.oid"), heads.get("branch.head")
    return (
        None if commit in {None, "(initial)"} else commit,
        None if branch in {None, "(detached)"} else branch,
        any(not line.startswith("# ") for line in lines),
    )
