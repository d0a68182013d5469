"""composition.yaml: what it may say, and one clear sentence with file and key for what it may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim.device_manager import deployment
from roboticks_tasks.sim.device_manager.deployment import CompositionError

SHIPPED = Path(__file__).parents[2] / "roboticks_tasks" / "sim" / "hello_world" / "deployment"
MODULE: dict[str, Any] = {"name": "only", "command": ["python", "x.py"]}
FOLDER = Path("/deployment/Robot")


def parse(**document: Any) -> deployment.Composition:
    return deployment.parse({"modules": [MODULE], **document}, folder=FOLDER)


def test_the_shortest_file_gets_the_documented_default_mode() -> None:
    composition = parse()

    assert (composition.name, composition.default_mode, list(composition.modes)) == ("Robot", "prod", ["prod"])
    assert composition.modules[0].command == ("python", "x.py")
    assert composition.modules[0].environment == {}


def test_modes_carry_an_environment_of_texts() -> None:
    composition = parse(modes={"dev": {"environment": {"PERIOD": 0.5, "NAME": "x"}}, "field": None})

    assert composition.modes == {"dev": {"PERIOD": "0.5", "NAME": "x"}, "field": {}}
    assert composition.default_mode == "dev"


def test_the_mode_is_the_default_or_one_of_the_known() -> None:
    composition = parse(modes=["dev", "prod"])

    assert deployment.mode_of(composition, None) == "prod"
    assert deployment.mode_of(composition, "dev") == "dev"
    with pytest.raises(CompositionError, match=r"composition Robot has no mode 'fast' \(known: dev, prod\)"):
        deployment.mode_of(composition, "fast")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (None, "must be a mapping, got None"),
        ([], "must be a mapping, got []"),
        ({}, "modules must be a list of at least one module, got None"),
        ({"modules": []}, "modules must be a list of at least one module, got []"),
        ({"modules": {"a": 1}}, "modules must be a list of at least one module, got {'a': 1}"),
        ({"modules": ["a"]}, "modules[0] must be a mapping, got 'a'"),
        ({"modules": [MODULE], "mods": 1}, "unknown key 'mods' (known: name, default_mode, modes, modules)"),
        ({"modules": [MODULE], "name": "Other"}, "name is 'Other' but the folder is 'Robot'"),
        ({"modules": [MODULE], "name": "../x"}, "name must be a name of letters"),
        ({"modules": [MODULE, MODULE]}, "modules has the name 'only' twice"),
        ({"modules": [MODULE], "modes": []}, "modes must be a list of names or a mapping"),
        ({"modules": [MODULE], "modes": [True]}, "modes[0] must be a name of letters"),
        ({"modules": [MODULE], "modes": {"dev": {"env": {}}}}, "modes.dev unknown key 'env' (known: environment)"),
        (
            {"modules": [MODULE], "modes": ["dev"], "default_mode": "prod"},
            "default_mode 'prod' is not one of its modes",
        ),
        ({"modules": [{"command": ["x"]}]}, "modules[0].name must be a name of letters"),
        (
            {"modules": [{**MODULE, "name": "registration"}]},
            "modules[0].name 'registration' is reserved for the device",
        ),
        ({"modules": [{**MODULE, "command": "x"}]}, "modules[0].command must be a list of texts, the program first"),
        ({"modules": [{**MODULE, "command": []}]}, "modules[0].command must be a list of texts"),
        ({"modules": [{**MODULE, "command": [""]}]}, "modules[0].command must be a list of texts"),
        ({"modules": [{**MODULE, "command": ["a", 1]}]}, "modules[0].command must be a list of texts"),
        ({"modules": [{**MODULE, "command": ["a\0"]}]}, "modules[0].command must be a list of texts"),
        (
            {"modules": [{**MODULE, "environment": {"A B": "x"}}]},
            "environment has a key that is no variable name: 'A B'",
        ),
        ({"modules": [{**MODULE, "environment": {"A": True}}]}, "environment.A must be a text or a number, got True"),
        ({"modules": [{**MODULE, "environment": ["A"]}]}, "modules[0].environment must be a mapping, got ['A']"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_file_and_key(document: object, sentence: str) -> None:
    with pytest.raises(CompositionError) as caught:
        deployment.parse(document, folder=FOLDER)

    message = str(caught.value)
    assert message.startswith("/deployment/Robot/composition.yaml: ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "not YAML: "),
        (b"\xff\xfe\x00", "cannot be read: "),
        (b"a: !!python/object/apply:os.getcwd []", "not YAML: "),
        (b"#" * 300_000, "larger than 256 KiB"),
        (b"[" * 20_000, "not YAML: "),
        (b"name: 2026-13-45", "not YAML: month must be in 1..12"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "composition.yaml").write_bytes(content)

    with pytest.raises(CompositionError) as caught:
        deployment.read(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path}/composition.yaml: {sentence}")
    assert "\n" not in str(caught.value)


def test_every_name_that_the_device_manager_logs_under_is_reserved() -> None:
    sources = Path(deployment.__file__).parent.glob("*.py")
    text = "".join(source.read_text() for source in sources)
    origins = set(re.findall(r'journal\.(?:info|warning|error)\(\s*"([^"]+)"', text))
    origins |= set(re.findall(r'journal\.write\("[A-Z]+", "([^"]+)"', text))

    assert len(origins) > 8
    assert origins == deployment.RESERVED


def test_an_unknown_composition_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("B", "A"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "composition.yaml").touch()
    (tmp_path / "no-composition").mkdir()

    with pytest.raises(CompositionError, match=r"unknown composition 'C' \(known: A, B\)"):
        deployment.find(tmp_path, "C")


def test_a_missing_deployment_folder_is_an_empty_one(tmp_path: Path) -> None:
    assert deployment.names(tmp_path / "nothing") == []
    with pytest.raises(CompositionError, match="none is deployed in"):
        deployment.find(tmp_path / "nothing", "C")


@pytest.mark.parametrize("name", ["", ".", "..", "../A", "A/../A", "/A"])
def test_a_name_cannot_leave_the_deployment_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "composition.yaml").touch()

    with pytest.raises(CompositionError, match="unknown composition"):
        deployment.find(tmp_path / "A", name)


def test_the_shipped_compositions_are_good() -> None:
    names = deployment.names(SHIPPED)

    assert names == ["HeartbeatComposition", "HelloWorldComposition"]
    for name in names:
        composition = deployment.read(SHIPPED / name)
        for module in composition.modules:
            assert (composition.folder / module.command[1]).is_file()
    hello = deployment.read(SHIPPED / "HelloWorldComposition").modes
    assert all(hello["dev"][key] != hello["prod"][key] for key in hello["dev"])
