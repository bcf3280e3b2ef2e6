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
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
TEST = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "nbconvert": "nbconvert-core",
    "playwright": "playwright-python",
    "seaborn": "seaborn-base",
}
TOP_LEVEL = {
    *(
        "lsnc_core",
        "notebooks",
        "tests",
        "benchmarks",
        "outputs",
        "run_all.sh",
        "run_tests.sh",
        "environment.yml",
        "pyproject.toml",
    ),
    *(
        "requirements.lock",
        "README.md",
        "LICENSE",
        "CITATION.cff",
        ".gitignore",
        ".gitattributes",
        ".ci",
    ),
}
SCRIPTS = ["run_all.sh", "run_tests.sh", ".ci/run"]
MODULES = sorted((ROOT / "lsnc_core").rglob("*.py"))
NOTEBOOKS = sorted(
    path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)


# ------------------------------------------------------------------------------------------------ requirements


def test_environment_yml_asks_for_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "lsnc" and environment["channels"] == [
        "conda-forge",
        "nodefaults",
    ]
    *lines, last = environment["dependencies"]
    assert set(last) == {"pip"} and "-e ." in last["pip"]
    listed = [Requirement(line) for line in [*lines, *last["pip"]] if line not in ("pip", "-e .")]
    found = {requirement.name: requirement.specifier for requirement in listed}
    assert len(found) == len(listed)
    expected = {
        CONDA_NAMES.get(requirement.name, requirement.name): requirement.specifier
        for requirement in RUNTIME + TEST
    }
    expected["python"] = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert found == expected


def locked():
    """Every pin of the lock that applies to this Python and platform: name -> (version, number of
    hashes).
    """
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        asked, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        requirement = Requirement(asked)
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes) and hashes, (
            f"{asked} has no hash"
        )
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), f"{asked} is not one version"
        for python in ("3.11.0", "3.12.0", "3.13.0"):
            surroundings = {
                **default_environment(),
                "python_version": python[:4],
                "python_full_version": python,
            }
            if requirement.marker is None or requirement.marker.evaluate(surroundings):
                pins[canonicalize_name(requirement.name), python] = Version(
                    str(requirement.specifier).removeprefix("==")
                )
    return pins


def test_the_lock_satisfies_pyproject_on_every_python():
    pins = locked()
    for python in ("3.11.0", "3.12.0", "3.13.0"):
        assert python in Requirement(f"python{PROJECT['requires-python']}").specifier
        for requirement in RUNTIME + TEST:
            version = pins.get((canonicalize_name(requirement.name), python))
            assert version is not None, f"{requirement.name} is not locked for Python {python}"
            assert version in requirement.specifier, f"{requirement.name} is locked at {version}"
        assert ("setuptools", python) in pins  # bootstrap.py builds the project with it


def test_the_lock_names_no_place_to_fetch_from():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b",
        text,
        re.MULTILINE,
    )
    assert "://" not in text


def test_the_ranges_admit_torch_2_11_to_2_15_and_its_torchvisions():
    bounds = {requirement.name: requirement.specifier for requirement in RUNTIME}
    assert [minor for minor in range(30) if f"2.{minor}.0" in bounds["torch"]] == [
        11,
        12,
        13,
        14,
        15,
    ]
    assert [minor for minor in range(40) if f"0.{minor}.0" in bounds["torchvision"]] == [
        26,
        27,
        28,
        29,
    ]
    # the oldest and the newest pair that belong together; bootstrap.py refuses a mixed one
    assert "2.11.0" in bounds["torch"] and "0.26.0" in bounds["torchvision"]
    assert "2.15.0" in bounds["torch"] and "0.29.2" in bounds["torchvision"]


# ------------------------------------------------------------------------------------------------ files and scripts


def test_top_level_names_are_the_agreed_ones():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    answer = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True
    )
    if answer.returncode != 0:
        pytest.skip(f"git does not list the files: {answer.stderr.strip()}")
    assert {name.split("/")[0] for name in answer.stdout.split("\0") if name} <= TOP_LEVEL


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_hold_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(name):
    assert os.access(ROOT / name, os.X_OK), f"chmod +x {name}"
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_importing_the_package_is_light():
    heavy = [
        "torch",
        "torchvision",
        "seaborn",
        "scipy",
        "ipywidgets",
        "pandas",
        "matplotlib",
        "sklearn",
        "mlxtend",
        "pyarrow",
    ]
    code = f"import sys; before = set(sys.modules); import lsnc_core; print(*(set(sys.modules) - before) & set({heavy}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []


def test_the_citation_names_the_software_and_the_three_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"] and citation["version"] == PROJECT["version"]
    references = {entry["identifiers"][0]["value"]: entry for entry in citation["references"]}
    first_authors = {
        name: entry["authors"][0]["family-names"] for name, entry in references.items()
    }
    assert first_authors == {
        "arXiv:2010.12648": "Chen",
        "arXiv:2402.03979": "Guo",
        "arXiv:2210.02192": "Zhou",
    }
    assert [len(entry["authors"]) for entry in references.values()] == [4, 6, 7]


def test_the_licence_is_the_one_pyproject_names():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (
        text.startswith("MIT License\n\nCopyright (c) 2026 the lsnc-core authors\n")
        and PROJECT["license"] == "MIT"
    )


# ------------------------------------------------------------------------------------------------ notebooks


@pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "notebooks").as_posix()
)
class TestNotebook:
    """Notebooks are thin, hold no results, and start with their title."""

    @staticmethod
    def read(path):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]
        return (
            notebook["metadata"],
            cells,
            [cell["source"] for cell in cells if cell["cell_type"] == "code"],
        )

    def test_holds_no_results(self, path):
        metadata, cells, _ = self.read(path)
        assert not {"widgets", "papermill"} & set(metadata)
        assert metadata["kernelspec"]["name"] == "python3"
        for cell in cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert "papermill" not in cell["metadata"] and "execution" not in cell["metadata"]

    def test_starts_with_a_title_and_has_one_cell_of_parameters(self, path):
        _, cells, _ = self.read(path)
        assert cells[0]["cell_type"] == "markdown" and cells[0]["source"].startswith("# ")
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        assert [cell["cell_type"] for cell in tagged] == ["code"]

    def test_is_thin(self, path):
        _, _, code = self.read(path)
        lines = [
            line
            for source in code
            for line in source.splitlines()
            if line.strip() and not line.strip().startswith("#")
        ]
        assert len(lines) <= 120
        assert sum(bool(re.match(r"\s*(async )?def ", line)) for line in lines) <= 2
        assert max((len(source.splitlines()) for source in code), default=0) <= 40

    def test_is_at_home_anywhere(self, path):
        _, cells, code = self.read(path)
        assert not [
            source
            for source in code
            if re.search(r"^\s*[!%]\s*(pip|conda|uv)\b", source, re.MULTILINE)
        ]
        absolute = re.compile(
            r"(?<![\w.:/~-])/(home|Users|root|work|tmp|mnt|data|content|opt|usr|var|scratch)/|\b[A-Z]:\\"
        )
        assert not [found.group() for cell in cells if (found := absolute.search(cell["source"]))]
