"""The house rules that no other tool holds: floors, modules, the files that repeat each other."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pathspec import GitIgnoreSpec

from tests import needs

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted((CHECKOUT / "gateway").rglob("*.py"))
LINT = Path(sys.executable).with_name("lint-imports")
_MOST_LINES = 300


def pyproject() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    """What the project depends on, with every extra."""
    project = pyproject()["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


def constraints() -> dict[str, Version]:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    pinned = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pinned}


def lint_imports(cwd: Path) -> subprocess.CompletedProcess[str]:
    if not LINT.exists():
        needs.missing("needs the extra lint")
    return subprocess.run(
        [LINT, "--no-cache"], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_nothing_calls_upwards():
    result = lint_imports(CHECKOUT)

    assert result.returncode == 0, result.stdout + result.stderr


def test_a_call_upwards_would_be_found(tmp_path):
    """Or the test above would prove nothing."""
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    compiled = shutil.ignore_patterns("__pycache__")  # others may be writing it
    shutil.copytree(CHECKOUT / "gateway", tmp_path / "gateway", ignore=compiled)
    with (tmp_path / "gateway/domain/errors.py").open("a") as module:
        module.write("\nimport gateway.service.workspaces\n")

    result = lint_imports(tmp_path)

    assert result.returncode == 1
    assert "gateway.domain.errors -> gateway.service.workspaces" in result.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_module_says_what_it_is_for_and_is_short(module):
    source = module.read_text()

    assert not source or ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= _MOST_LINES


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nobody_works_in_the_threads_of_asyncio(module):
    """Names are looked up there, for everybody; and the exit waits for what hangs in one."""
    assert not re.search(r"to_thread|run_in_executor", module.read_text())


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_the_checks_run_with_is_what_is_promised(requirement):
    version = constraints().get(canonicalize_name(requirement.name))

    assert version is not None
    assert version in requirement.specifier


def imported() -> set[str]:
    """The packages that modules of the gateway import, their own aside."""
    found: set[str] = set()
    for node in (node for module in MODULES for node in ast.walk(ast.parse(module.read_text()))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    # pydantic_core is a part of pydantic, which wants exactly one version of it.
    return found - sys.stdlib_module_names - {"gateway", "pydantic_core"}


def test_what_is_imported_is_required():
    """Not only by what is required: that may do without it one day."""
    providers = packages_distributions()
    required = {canonicalize_name(requirement.name) for requirement in requirements()}

    for package in imported():
        assert required & {canonicalize_name(one) for one in providers[package]}, package


def test_the_changelog_goes_as_far_as_the_code():
    headings = re.findall(r"(?m)^## \[?([^\]\s]+)", (CHECKOUT / "CHANGELOG.md").read_text())

    assert headings
    assert headings[0] in ("Unreleased", pyproject()["project"]["version"])


def test_the_wheel_is_the_whole_package():
    """It holds `gateway/config/default.yaml`: hatch leaves out only what git is to ignore."""
    build = pyproject()["tool"]["hatch"]["build"]
    ignored = GitIgnoreSpec.from_lines((CHECKOUT / ".gitignore").read_text().splitlines())
    files = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "gateway").rglob("*.*")}

    assert build == {"targets": {"wheel": {"packages": ["gateway"]}}}
    assert "gateway/config/default.yaml" in files
    assert not [name for name in ignored.match_files(files) if "__pycache__" not in name]
