"""environment.yml and constraints.txt against pyproject.toml: one set of packages, told three times."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
YML = (ROOT / "environment.yml").read_text()
CONDA = [line for line in yaml.safe_load(YML)["dependencies"] if isinstance(line, str)]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # PyPI's name: conda-forge's name
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def test_conda_has_the_packages_and_bounds_of_pyproject():
    requirements = map(Requirement, PROJECT["dependencies"] + EXTRAS["lab"])
    wanted = {CONDA_NAMES.get(each.name, each.name): str(each.specifier) for each in requirements}
    wanted |= {"python": PROJECT["requires-python"], "pip": ""}
    specs = map(MatchSpec, CONDA)
    assert {spec.name.normalized: str(spec.version or "") for spec in specs} == wanted


def test_conda_installs_the_course_itself():
    environment = yaml.safe_load(YML)
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    assert {"pip": ["-e ."]} in environment["dependencies"]


def test_conda_packages_have_a_reason():
    packages = re.findall(r"^ +- (?!pip:|conda-forge)(.+)$", YML, flags=re.MULTILINE)
    assert len(packages) == len(CONDA) + 1
    assert [line for line in packages if not re.search(r" # \w+", line)] == []


def test_constraints_are_exact_versions_for_every_system():
    exact = re.compile(r"[\w.-]+==[\d.]+((post|rc|a|b)\d+)?")  # no +cpu, no address, no range
    assert [pin for pin in PINS if not exact.fullmatch(pin)] == []


def test_constraints_lie_in_the_ranges_of_pyproject():
    pins = {canonicalize_name(pin.name): str(pin.specifier).lstrip("=") for pin in map(Requirement, PINS)}
    requirements = map(Requirement, PROJECT["dependencies"] + EXTRAS["lab"] + EXTRAS["test"])
    outside = [str(each) for each in requirements if pins[canonicalize_name(each.name)] not in each.specifier]
    assert outside == []


def test_pins_can_be_installed_on_the_oldest_python():
    """A pin that asks for 3.11.5 shuts out a system whose own Python is 3.11.2."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    asked = {pin.name: metadata(pin.name)["Requires-Python"] for pin in map(Requirement, PINS) if installed(pin)}
    assert len(asked) > 100
    assert {name: why for name, why in asked.items() if why and oldest not in SpecifierSet(why)} == {}


def installed(pin):
    """Whether this very version is here: its Requires-Python is then known."""
    try:
        return version(pin.name) in pin.specifier
    except PackageNotFoundError:  # of another system
        return False
