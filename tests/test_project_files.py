"""The files around the code agree with one another: requirements, lock, scripts, notebooks,
citation.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {}
for extra, listed in PROJECT["optional-dependencies"].items():
    asked = [Requirement(line) for line in listed]
    EXTRAS[extra] = [requirement for requirement in asked if requirement.name != PROJECT["name"]]
COMPANION, CLUSTER, TEST = EXTRAS["companion"], EXTRAS["cluster"], EXTRAS["test"]
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "nbconvert": "nbconvert-core",
    "playwright": "playwright-python",
    "seaborn": "seaborn-base",
}
TOP_LEVEL = {
    *("lsnc_core", "notebooks", "tests", "benchmarks", "outputs", "run_all.sh", "run_tests.sh"),
    *("environment.yml", "pyproject.toml", "requirements.lock"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"),
    *(".gitignore", ".gitattributes", ".pre-commit-config.yaml", ".ci", ".github"),
}
SCRIPTS = ["run_all.sh", "run_tests.sh", ".ci/run"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYTHONS = ("3.11.0", "3.12.0", "3.13.0", "3.14.0")


# requirements


def test_environment_yml_asks_for_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "lsnc"
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *lines, last = environment["dependencies"]
    assert set(last) == {"pip"} and "-e ." in last["pip"]
    listed = [Requirement(line) for line in [*lines, *last["pip"]] if line not in ("pip", "-e .")]
    asked = {requirement.name: requirement.specifier for requirement in listed}
    assert len(asked) == len(listed)
    expected = {"python": Requirement(f"python{PROJECT['requires-python']}").specifier}
    for requirement in BASE + COMPANION + CLUSTER + TEST:
        # the companion narrows the range of torch
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        expected[name] = requirement.specifier
    assert asked == expected


def test_the_companion_narrows_ranges_of_the_base_and_the_tests_build_on_it():
    base = {requirement.name: requirement.specifier for requirement in BASE}
    twice = {each.name: each.specifier for each in COMPANION if each.name in base}
    assert list(twice) == ["torch"]
    for minor in range(40):
        version = f"2.{minor}.0"
        assert version not in twice["torch"] or version in base["torch"]
    assert f"{PROJECT['name']}[companion,cluster]" in PROJECT["optional-dependencies"]["test"]


def test_scripts_and_readme_name_the_pythons_that_the_lock_covers():
    minors = [version.split(".")[1] for version in PYTHONS]
    *first, last = [f"3.{minor}" for minor in minors]
    classifiers = [f"Programming Language :: Python :: 3.{minor}" for minor in minors]
    assert [line for line in PROJECT["classifiers"] if " 3." in line] == classifiers
    for name in ("run_all.sh", "run_tests.sh"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert f"install Python {', '.join(first)} or {last}." in text
    assert f"Python {first[0]} to {last}" in (ROOT / "README.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == [*first, last]


def locked():
    """Every pin of the lock that applies to a Python on this platform: (name, Python) ->
    version.
    """
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        asked, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        requirement = Requirement(asked)
        whole = [re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes]
        assert whole and all(whole), f"{asked} has no hash"
        specifier = str(requirement.specifier)
        assert re.fullmatch(r"==[^*,]+", specifier), f"{asked} is not one version"
        for python in PYTHONS:
            versions = {"python_version": python[:4], "python_full_version": python}
            surroundings = default_environment() | versions
            if requirement.marker is None or requirement.marker.evaluate(surroundings):
                version = Version(specifier.removeprefix("=="))
                pins[canonicalize_name(requirement.name), python] = version
    return pins


def test_the_lock_satisfies_pyproject_on_every_python():
    pins = locked()
    for python in PYTHONS:
        assert python in Requirement(f"python{PROJECT['requires-python']}").specifier
        for requirement in BASE + COMPANION + CLUSTER + TEST:
            version = pins.get((canonicalize_name(requirement.name), python))
            assert version is not None, f"{requirement.name} is not locked for Python {python}"
            assert version in requirement.specifier, f"{requirement.name} is locked at {version}"
        assert ("setuptools", python) in pins  # bootstrap.py builds the project with it


def test_the_lock_names_no_place_to_fetch_from():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    options = "-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host"
    assert not re.search(rf"^\s*({options})\b", text, re.MULTILINE)
    assert "://" not in text


def test_the_companion_admits_torch_2_11_to_2_15_and_its_torchvisions():
    bounds = {requirement.name: requirement.specifier for requirement in COMPANION}
    torch = [minor for minor in range(30) if f"2.{minor}.0" in bounds["torch"]]
    assert torch == [11, 12, 13, 14, 15]
    torchvision = [minor for minor in range(40) if f"0.{minor}.0" in bounds["torchvision"]]
    assert torchvision == [26, 27, 28, 29]
    # the oldest and the newest pair that belong together; bootstrap.py refuses a mixed one
    assert "2.11.0" in bounds["torch"] and "0.26.0" in bounds["torchvision"]
    assert "2.15.0" in bounds["torch"] and "0.29.2" in bounds["torchvision"]


# files and scripts


def test_top_level_names_are_the_agreed_ones():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    answer = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True
    )
    if answer.returncode != 0:
        pytest.skip(f"git does not list the files: {answer.stderr.strip()}")
    assert {name.split("/")[0] for name in answer.stdout.split("\0") if name} <= TOP_LEVEL


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(name):
    assert os.access(ROOT / name, os.X_OK), f"chmod +x {name}"
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_importing_the_package_is_light():
    heavy = {"torch", "torchvision", "seaborn", "scipy", "ipywidgets", "pandas", "matplotlib"}
    heavy |= {"sklearn", "mlxtend", "pyarrow"}
    code = "import sys; before = set(sys.modules); import lsnc_core; "
    code += f"print(*(set(sys.modules) - before) & {heavy})"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []


def test_the_citation_names_the_software_and_the_three_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"] and citation["version"] == PROJECT["version"]
    papers = {}
    for entry in citation["references"]:
        first, number = entry["authors"][0]["family-names"], len(entry["authors"])
        papers[entry["identifiers"][0]["value"]] = first, number
    assert papers == {
        "arXiv:2010.12648": ("Chen", 4),
        "arXiv:2402.03979": ("Guo", 6),
        "arXiv:2210.02192": ("Zhou", 7),
    }


def test_the_licence_is_the_one_pyproject_names():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 the lsnc-core authors\n")
    assert PROJECT["license"] == "MIT"


# notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    """Notebooks hold no results and start with their title; test_architecture keeps them thin."""

    @staticmethod
    def read(path):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]
        return notebook["metadata"], cells

    def test_holds_no_results(self, path):
        metadata, cells = self.read(path)
        assert not {"widgets", "papermill"} & set(metadata)
        assert metadata["kernelspec"]["name"] == "python3"
        for cell in cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert "papermill" not in cell["metadata"] and "execution" not in cell["metadata"]

    def test_starts_with_a_title_and_has_one_cell_of_parameters(self, path):
        _, cells = self.read(path)
        assert cells[0]["cell_type"] == "markdown" and cells[0]["source"].startswith("# ")
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        assert [cell["cell_type"] for cell in tagged] == ["code"]

    def test_is_at_home_anywhere(self, path):
        _, cells = self.read(path)
        folders = "home|Users|root|work|tmp|mnt|data|content|opt|usr|var|scratch"
        absolute = re.compile(rf"(?<![\w.:/~-])/({folders})/|\b[A-Z]:\\")
        for cell in cells:
            assert not absolute.search(cell["source"])
            if cell["cell_type"] == "code":
                install = r"^\s*[!%]\s*(pip|conda|uv)\b"
                assert not re.search(install, cell["source"], re.MULTILINE)
