"""pyproject.toml, requirements.txt and environment.yml say the same; the Makefile keeps to its rules."""

import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RANGES = {r.name: r for r in map(Requirement, PROJECT["project"]["dependencies"])}
GROUPS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["dependency-groups"].items()}
PINS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def pins(name: str) -> list[Version]:
    """Every version that requirements.txt pins for a package (numpy has one a Python)."""
    return [Version(v) for v in re.findall(rf"^{re.escape(name)}==([\w.+!]+)", PINS, flags=re.M)]


@pytest.mark.parametrize("requirement", [*RANGES.values(), *(r for group in GROUPS.values() for r in group)], ids=str)
def test_the_pins_lie_within_the_ranges(requirement):
    assert pins(requirement.name), f"{requirement.name} is not in requirements.txt: run `make lock`"
    assert all(version in requirement.specifier for version in pins(requirement.name))


def test_every_pin_has_a_hash_and_names_no_host():
    entries = re.split(r"\n(?=\S)", PINS)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])
    assert "://" not in PINS and "--index" not in PINS


def test_torch_and_torchvision_are_what_colab_has():
    assert pins("torch") == [Version("2.11.0")] and pins("torchvision") == [Version("0.26.0")]


def test_environment_yml_names_the_same_packages_with_the_same_ranges():
    (by_pip,) = (entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    listed = {r.name: r for r in map(Requirement, by_pip)}
    assert listed.keys() == RANGES.keys()
    for name, requirement in listed.items():
        if name in ("torch", "torchvision"):  # the tested version, not a range
            assert [Version(next(iter(requirement.specifier)).version)] == pins(name)
        else:
            assert requirement.specifier == RANGES[name].specifier, name


def test_environment_yml_has_a_python_that_the_project_takes():
    (python,) = (e.split("=")[-1] for e in CONDA["dependencies"] if isinstance(e, str) and e.startswith("python="))
    assert Version(python) in __import__("packaging.specifiers", fromlist=["_"]).SpecifierSet(
        PROJECT["project"]["requires-python"]
    )


@pytest.mark.parametrize("file", ["environment.yml", "README.md"])
def test_the_second_step_for_d2l_is_documented(file):
    assert "pip install --no-deps d2l==1.0.3" in (ROOT / file).read_text(encoding="utf-8")


def test_binder_takes_the_steps_that_environment_yml_names():
    named = re.findall(
        r"^#   (pip install [^#\n]*?) *(?:#.*)?$", (ROOT / "environment.yml").read_text("utf-8"), flags=re.M
    )
    script = ROOT / "postBuild"
    assert script.read_text(encoding="utf-8").splitlines()[-len(named) :] == named and len(named) == 3
    assert script.read_bytes().startswith(b"#!/bin/sh\n") and (os.name != "posix" or os.access(script, os.X_OK))


def test_what_d2l_needs_besides_is_said_wherever_it_is_installed():
    (metadata,) = PROJECT["tool"]["uv"]["dependency-metadata"]
    for file in ("README.md", "environment.yml", "postBuild"):
        (line,) = re.findall(r"pip install (scipy[^#\n]*)", (ROOT / file).read_text(encoding="utf-8"))
        assert line.split() == ["scipy", "requests"] and set(line.split()) <= set(metadata["requires-dist"]), file


def test_d2l_stands_in_a_group_of_its_own_without_its_pins():
    assert [str(r) for r in GROUPS["d2l"]] == ["d2l==1.0.3"]
    assert not any(r.name == "d2l" for name, group in GROUPS.items() if name != "d2l" for r in group)
    (metadata,) = PROJECT["tool"]["uv"]["dependency-metadata"]
    assert metadata["name"] == "d2l" and not any("==" in need for need in metadata["requires-dist"])


def test_there_is_no_lock_file_of_uv():
    assert not (ROOT / "uv.lock").exists(), "it records the hosts of package registries: use `make lock`"


def test_the_makefile_has_relative_targets_and_never_allows_root():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "CURDIR" not in makefile and "allow-root" not in makefile
