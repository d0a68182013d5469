"""Which change a run tests: what git says of the disk, what the CI system's variables say of the job."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from roboticks_tasks import provenance as module
from roboticks_tasks.models import Provenance
from roboticks_tasks.provenance import provenance
from tests.parts import require

COMMIT = "0123456789abcdef0123456789abcdef01234567"

AZURE = {
    "TF_BUILD": "True",
    "BUILD_SOURCEVERSION": COMMIT,
    "BUILD_SOURCEBRANCH": "refs/heads/team/grip",
    "BUILD_SOURCEBRANCHNAME": "grip",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/lab/",
    "SYSTEM_TEAMPROJECT": "arm",
    "BUILD_BUILDID": "9",
    "SYSTEM_JOBDISPLAYNAME": "hil",
}

JOBS: dict[str, tuple[dict[str, str], tuple[str | None, int | None, str | None, str | None]]] = {
    "github-actions": (
        {
            "GITHUB_ACTIONS": "true",
            "CI": "true",
            "GITHUB_SHA": COMMIT,
            "GITHUB_HEAD_REF": "",
            "GITHUB_REF_NAME": "team/grip",
            "GITHUB_REF": "refs/heads/team/grip",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "lab/arm",
            "GITHUB_RUN_ID": "9",
            "GITHUB_JOB": "hil",
        },
        ("team/grip", None, "https://github.com/lab/arm/actions/runs/9", "hil"),
    ),
    "github-actions, pull request": (
        {
            "GITHUB_ACTIONS": "true",
            "GITHUB_SHA": COMMIT,
            "GITHUB_HEAD_REF": "team/grip",
            "GITHUB_REF_NAME": "7/merge",
            "GITHUB_REF": "refs/pull/7/merge",
        },
        ("team/grip", 7, None, None),
    ),
    "gitlab-ci": (
        {
            "GITLAB_CI": "true",
            "CI": "true",
            "CI_COMMIT_SHA": COMMIT,
            "CI_COMMIT_REF_NAME": "team/grip",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_JOB_URL": "https://gitlab/9",
            "CI_JOB_NAME": "hil",
        },
        ("team/grip", 7, "https://gitlab/9", "hil"),
    ),
    "buildkite": (
        {
            "BUILDKITE": "true",
            "BUILDKITE_COMMIT": COMMIT,
            "BUILDKITE_BRANCH": "team/grip",
            "BUILDKITE_PULL_REQUEST": "false",
            "BUILDKITE_BUILD_URL": "https://buildkite/9",
            "BUILDKITE_LABEL": "hil",
        },
        ("team/grip", None, "https://buildkite/9", "hil"),
    ),
    "azure-pipelines": (AZURE, ("team/grip", None, "https://dev.azure.com/lab/arm/_build/results?buildId=9", "hil")),
    "azure-pipelines, pull request": (
        AZURE
        | {
            "BUILD_SOURCEBRANCH": "refs/pull/7/merge",
            "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/team/grip",
            "SYSTEM_PULLREQUEST_PULLREQUESTID": "7",
        },
        ("team/grip", 7, "https://dev.azure.com/lab/arm/_build/results?buildId=9", "hil"),
    ),
    "jenkins": (
        {
            "JENKINS_URL": "https://jenkins/",
            "GIT_COMMIT": COMMIT,
            "CHANGE_BRANCH": "team/grip",
            "BRANCH_NAME": "PR-7",
            "CHANGE_ID": "7",
            "BUILD_URL": "https://jenkins/9/",
            "JOB_NAME": "hil",
        },
        ("team/grip", 7, "https://jenkins/9/", "hil"),
    ),
    "circleci": (
        {
            "CIRCLECI": "true",
            "CIRCLE_SHA1": COMMIT,
            "CIRCLE_BRANCH": "team/grip",
            "CIRCLE_BUILD_URL": "https://circleci/9",
            "CIRCLE_JOB": "hil",
        },
        ("team/grip", None, "https://circleci/9", "hil"),
    ),
    "unknown": ({"CI": "1"}, (None, None, None, None)),
}
"""The variables of each CI system, and what they tell: branch, pull request, page and job."""


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_told_by_its_systems_variables(name: str, tmp_path: Path) -> None:
    environ, expected = JOBS[name]
    found = provenance(environ, tmp_path)
    assert (found.branch, found.pull_request, found.url, found.job) == expected
    assert found.ci == name.partition(",")[0]
    assert found.commit == (None if name == "unknown" else COMMIT)
    assert found.is_dirty is None


@pytest.mark.parametrize("word", ["seven", "refs/heads/7", "refs/pull/x/merge", "7" * 40, "-7", "7\n8", "https://x/7"])
def test_what_is_no_number_is_no_pull_request(word: str, tmp_path: Path) -> None:
    found = provenance({"GITHUB_ACTIONS": "true", "GITHUB_REF": word}, tmp_path)
    assert (found.ci, found.pull_request) == ("github-actions", None)


def git(folder: Path, *words: str) -> str:
    require("git")
    alone = {"HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    options = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *options, *words], cwd=folder, env=alone, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "file").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", "file")
    git(folder, "commit", "-qm", "first")
    return folder


def test_without_a_job_git_says_what_is_tested(tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    (tree / "untracked").touch()
    assert provenance({}, tree) == Provenance(commit=commit, branch="main", is_dirty=False)
    (tree / "file").write_text("2")
    assert provenance({}, tree) == Provenance(commit=commit, branch="main", is_dirty=True)


def test_what_is_on_disk_is_what_is_tested_whichever_commit_has_triggered_the_job(tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    git(tree, "checkout", "-q", "--detach")
    assert provenance({}, tree) == Provenance(commit=commit, is_dirty=False)
    found = provenance(JOBS["github-actions"][0], tree)
    assert (found.commit, found.branch) == (commit, "team/grip")


def test_a_tree_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert provenance({}, tmp_path) == Provenance(branch="main", is_dirty=False)


@pytest.mark.parametrize("name", ["$(touch${IFS}x)", "<script>", "`x`|a|", "ä\u202e", "'\"&;"])
def test_a_branch_may_be_called_anything(tree: Path, name: str) -> None:
    git(tree, "checkout", "-qb", name)
    assert provenance({}, tree).branch == name
    assert sorted(each.name for each in tree.iterdir()) == [".git", "file"]


def test_git_is_asked_without_the_lock_that_a_developers_own_git_would_stumble_over(tree: Path) -> None:
    """Killed halfway it would leave index.lock, and every later command in that tree would fail."""
    index = tree / ".git" / "index"
    os.utime(tree / "file", (1, 1))  # what an ordinary `git status` writes into the index
    before = index.read_bytes()
    assert provenance({}, tree).is_dirty is False
    assert index.read_bytes() == before


def fake_git(folder: Path, script: str) -> Mapping[str, str]:
    program = folder / "git"
    program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize("script", ["exit 128", "exec sleep 600", "sleep 2 & wait", None])
def test_a_git_that_fails_hangs_or_is_not_there_costs_nothing_but_what_it_would_have_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    environ = {"PATH": str(tmp_path)} if script is None else fake_git(tmp_path, f"PATH=/usr/bin:/bin; {script}")
    monkeypatch.setenv("PATH", environ["PATH"])
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    assert provenance({}, tmp_path) == Provenance()
    assert provenance(JOBS["jenkins"][0], tmp_path).commit == COMMIT
