"""The files around the package agree: one version everywhere, and the same tools and Pythons in CI,
in the pre-commit file and in setup.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

import tinycv

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github/workflows/ci.yml"
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")


def parsed(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_version_is_the_same_in_the_package_the_changelog_and_the_citation():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^]]*)\]", changelog, re.MULTILINE)[1]
    assert tinycv.__version__ == newest == str(parsed(ROOT / "CITATION.cff")["version"])


def test_setup_reads_the_version_from_the_package():
    assert "version=version" in SETUP and "__version__" in SETUP
    assert tinycv.__version__ not in SETUP


def test_the_citation_has_what_version_1_2_of_the_format_requires():
    citation = parsed(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "MIT"
    assert citation["title"] and citation["message"] and citation["authors"]


def test_the_workflow_calls_ci_on_every_python_that_setup_names():
    job = parsed(WORKFLOW)["jobs"]["checks"]
    pythons = job["strategy"]["matrix"]["python"]
    assert all(isinstance(python, str) for python in pythons)  # 3.10 as a number is 3.1
    assert pythons == re.findall(r"Python :: (3\.\d+)", SETUP)
    assert f'python_requires=">={pythons[0]}"' in SETUP
    assert {"run": ".ci/run"} in job["steps"] and os.access(ROOT / ".ci/run", os.X_OK)


def test_pre_commit_runs_the_ruff_of_ci_and_checks_the_generated_tables():
    hooks = {
        hook["id"]: hook
        for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"]
        for hook in repo["hooks"]
    }
    ruff = re.search(r'"(ruff==[^"]+)"', CI)[1]
    for name in ("ruff", "ruff-format"):
        assert hooks[name]["additional_dependencies"] == [ruff]
    assert hooks["readme"]["entry"] == "python -m demos.readme --check"


def test_every_yaml_file_of_the_project_parses():
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) > 1 and all(isinstance(parsed(file), dict) for file in files)
    for template in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.md"):
        header = template.read_text(encoding="utf-8").split("---\n")[1]
        assert {"name", "about"} <= set(yaml.safe_load(header))
