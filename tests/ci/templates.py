"""What the templates of ci/ have in them: their files, and the scripts of their jobs as a runner would call them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CI = Path(__file__).resolve().parents[2] / "ci"

BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""How GitHub calls a script with `shell: bash`; GitLab's has the same options."""


class Job(NamedTuple):
    """A job's scripts and their interpreters.

    `environment` is what the template sets, `variables` what the system does, with `{folder}` for the workspace.
    `install` and `run` are one script where the system runs both in one shell: then `install` is empty.
    """

    name: str
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    install: str
    run: str
    teardown: str
    shell: tuple[str, ...] = BASH
    teardown_shell: tuple[str, ...] = BASH

    @property
    def scripts(self) -> dict[str, str]:
        """Every script that the job has, by what it is for."""
        named = {"install": self.install, "run": self.run, "teardown": self.teardown}
        return {f"{self.name}-{word}": script for word, script in named.items() if script}


def load(name: str) -> Any:
    """Read a YAML file of ci/."""
    return yaml.safe_load((CI / name).read_text(encoding="utf-8"))


def github() -> Job:
    """The composite action with its default inputs."""
    action = load("github/actions/hil/action.yml")
    inputs = {f"${{{{ inputs.{key} }}}}": str(value["default"]) for key, value in action["inputs"].items()}
    steps = {step["name"]: step for step in action["runs"]["steps"] if "run" in step}
    environment = {key: inputs[word] for step in steps.values() for key, word in step["env"].items()}
    install, run, teardown = (steps[name]["run"] for name in ("Install", "Run", "Tear down"))
    system = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF": "refs/pull/7/merge",
        "RUNNER_TEMP": "{folder}/temp",
        "GITHUB_STEP_SUMMARY": "{folder}/summary.md",
    }
    return Job("github_actions", system, environment, install, run, teardown)


def gitlab(job: str = ".hil-hosted") -> Job:
    """A job that extends one of the include's: before_script and script are one shell, after_script another."""
    document = load("gitlab/hil.yml")
    merged: dict[str, Any] = {**document[".hil"], **document[job]}
    system = {"CI": "true", "GITLAB_CI": "true", "CI_JOB_ID": "4711", "CI_PROJECT_DIR": "{folder}"}
    variables = {**document[".hil"]["variables"], **document[job].get("variables", {})}
    environment = {key: expand(value, system) for key, value in variables.items()}
    script = "\n".join(merged["before_script"] + merged["script"])
    return Job("gitlab_ci", system, environment, "", script, "\n".join(merged["after_script"]))


def jenkins() -> Job:
    """The Jenkinsfile's three `sh` steps in their order; what is in an environment block is a literal of one line."""
    text = (CI / "jenkins/Jenkinsfile").read_text(encoding="utf-8")
    install, run, teardown = (unescape(body) for body in re.findall(r"\bsh '''(.*?)'''", text, re.DOTALL))
    [block] = re.findall(r"^    environment \{\n(.*?)^    \}", text, re.DOTALL | re.MULTILINE)
    values = re.findall(r"^ +(\w+) = (['\"])(.*?)\2", block, re.MULTILINE)
    system = {
        "CI": "true",
        "JENKINS_URL": "http://jenkins.lab/",
        "BUILD_NUMBER": "12",
        "JENKINS_SERVER_COOKIE": "durable-1",
    }
    environment = {name: value.replace("${env.BUILD_NUMBER}", "12") for name, _, value in values}
    shell = ("sh", "-xe")
    return Job("jenkins", system, environment | {"HIL_PROFILE": "sim"}, install, run, teardown, shell, shell)


def unescape(body: str) -> str:
    """What Groovy makes of the inside of a string between three single quotes."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), body, flags=re.DOTALL)


def azure(**parameters: object) -> Job:
    """The template's job with its default parameters and these."""
    [job] = expanded(**({"profile": "sim"} | parameters))["jobs"]
    steps = {step["displayName"]: step for step in job["steps"] if "bash" in step}
    system = {"TF_BUILD": "True", "BUILD_SOURCEVERSION": "0" * 40, "AGENT_TEMPDIRECTORY": "{folder}/temp"}
    words = {"$(Pipeline.Workspace)": "{folder}", "False": "false", "True": "true"}
    environment = {key: replaced(str(value), words) for key, value in job["variables"].items()}
    install, run, teardown = (steps[name]["bash"] for name in ("Install", "Run", "Tear down"))
    shell = BASH[:3]
    return Job("azure_pipelines", system, environment, install, run, teardown, shell, shell)


def expanded(**parameters: object) -> Any:
    """Azure's template as its server makes it: parameters filled in, `if` and `each` over them done."""
    document = load("azure/hil.yml")
    values = {each["name"]: each.get("default") for each in document["parameters"]} | parameters
    return _expand({"jobs": document["jobs"]}, values)


def _expand(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        whole: dict[Any, Any] = {}
        for key, value in node.items():
            for scope in _scopes(key, values):
                inner = _expand(value, scope)
                whole |= inner if key.startswith(("${{ if", "${{ each")) else {_expand(key, scope): inner}
        return whole
    if isinstance(node, list):
        return [each for one in node for each in _expand_item(one, values)]
    if isinstance(node, str):
        if only := re.fullmatch(r"\$\{\{ (?:parameters\.)?(\w+) \}\}", node):
            return values[only[1]]
        return re.sub(r"\$\{\{ (?:parameters\.)?(\w+) \}\}", lambda found: str(values[found[1]]), node)
    return node


def _expand_item(item: Any, values: Mapping[str, Any]) -> list[Any]:
    """One item of a list, or, below an `if`, several or none."""
    if isinstance(item, dict) and (key := next(iter(item))).startswith("${{ if"):
        return [each for scope in _scopes(key, values) for each in _expand(item[key], scope)]
    return [_expand(item, values)]


def _scopes(key: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The values for each time that what is below a key counts: once, but for `if` and `each`."""
    if condition := re.fullmatch(r"\$\{\{ if parameters\.(\w+) \}\}", key):
        return [values] if values[condition[1]] else []
    if loop := re.fullmatch(r"\$\{\{ each (\w+) in parameters\.(\w+) \}\}", key):
        return [{**values, loop[1]: each} for each in values[loop[2]]]
    return [values]


def buildkite() -> Job:
    """The pipeline's first step after `pipeline upload`, and the hook."""
    document = load("buildkite/pipeline.yml")
    step = document["steps"][0]
    system = {"CI": "true", "BUILDKITE": "true", "BUILDKITE_COMMIT": "0" * 40, "BUILDKITE_STEP_KEY": "hil-sim"}
    environment = {
        **document["env"],
        **{key: replaced(value, {"{{matrix}}": step["matrix"][0]}) for key, value in step["env"].items()},
    }
    script = "\n".join(step["command"]).replace("$$", "$")
    hook = (CI / "buildkite/hooks/pre-exit").read_text(encoding="utf-8")
    return Job("buildkite", system, environment, "", script, hook, ("bash", "-e"), ("bash",))


def jobs() -> list[Job]:
    """One job of each CI system, with profile sim."""
    return [github(), gitlab(), jenkins(), azure(), buildkite()]


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Return the text with every word of `words` replaced by its value."""
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Fill in `$NAME` of these variables and of the process's HOME."""
    known = {"HOME": os.environ.get("HOME", "/"), **variables}
    return re.sub(r"\$(\w+)", lambda found: known.get(found[1], found[0]), text)
