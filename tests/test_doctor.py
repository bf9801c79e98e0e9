"""The doctor: OK, FAIL with the remedy, or -- for what is optional."""

import importlib.metadata
import re
import sys

import pytest
import torch

from unetlab import doctor
from unetlab.doctor import check_setup, checks

REQUIREMENTS = ["torch>=2.6", "numpy>=1.26", "tqdm", "jupyterlab>=4.4; extra == 'lab'"]
VERSIONS = {"torch": "2.13.0+cpu", "numpy": "1.26", "tqdm": "4.70.1", "jupyterlab": "4.6.6"}


@pytest.fixture
def installed(monkeypatch):
    """What is installed, as the doctor sees it; a test changes this dict."""
    versions = dict(VERSIONS)

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    def requires(name):
        if "unetlab" in versions.get("missing", ()):
            raise importlib.metadata.PackageNotFoundError(name)
        return REQUIREMENTS

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", requires)
    monkeypatch.delenv("UNETLAB_DATA", raising=False)
    return versions


def found(name):
    return next((status, finding) for status, check, finding in checks() if check == name)


def test_all_is_well(installed, capsys):
    assert check_setup()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["", "Ready."]
    assert all(re.match(r"(OK  |--  )  \S.{11}  \S", line) for line in lines[:-2])
    names = [line[6:18].strip() for line in lines[:-2]]
    assert names == ["Python", "torch", "numpy", "tqdm", "a step", "GPU", "threads", "notebooks", "real data"]


def test_in_this_very_environment_the_packages_of_pyproject_are_checked():
    names = [name for _, name, _ in checks()]
    assert {"Python", "a step", "GPU", "threads", "notebooks", "real data"} <= set(names)
    if "unetlab" not in names:  # installed, not only on the path
        assert {"torch", "numpy", "pillow", "safetensors", "ipywidgets"} <= set(names)
        assert all(status == "OK" for status, name, _ in checks() if name in ("torch", "numpy", "safetensors"))


@pytest.mark.parametrize(
    ("version", "status"), [("2.6", "OK"), ("2.6.0+cu124", "OK"), ("2.10.1", "OK"), ("2.5.9", "FAIL"), ("1.13", "FAIL")]
)
def test_versions_are_compared_as_numbers(installed, version, status):
    installed["torch"] = version
    result, finding = found("torch")
    assert result == status and version in finding
    assert ("pip install --upgrade 'torch>=2.6'" in finding) == (status == "FAIL")


def test_a_package_is_missing(installed, capsys):
    del installed["numpy"]
    assert found("numpy") == ("FAIL", "not installed: pip install 'numpy>=1.26'")
    assert not check_setup()
    assert capsys.readouterr().out.endswith("Not ready: mend the lines marked FAIL, then restart the kernel.\n")


def test_the_course_itself_is_not_installed(installed):
    installed["missing"] = ["unetlab"]
    assert found("unetlab") == ("FAIL", "not installed: run  python course.py lab  or  pip install -e .")


def test_an_old_python(installed, monkeypatch):
    assert found("Python")[0] == "OK"
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    status, finding = found("Python")
    assert status == "FAIL" and finding.endswith(": need 3.11")


def test_what_is_optional_never_fails(installed, monkeypatch):
    del installed["jupyterlab"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("notebooks", "GPU", "real data"):
        assert found(name)[0] == "--"
    assert check_setup()


def test_a_graphics_card_is_named(installed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert found("GPU") == ("OK", "Apple GPU through MPS")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A Card")
    card = type("Properties", (), {"total_memory": 8 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert found("GPU") == ("OK", "A Card, 8 GiB")


def test_the_training_step_is_a_real_one(installed, monkeypatch):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert found("a step")[0] == "OK"
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr(doctor.UNet, "forward", lambda model, x: model.head.bias * torch.inf)
    assert found("a step") == ("FAIL", "gradients are missing or not finite")


def test_the_folder_of_real_data(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path / "missing"))
    status, finding = found("real data")
    assert status == "FAIL" and f"{tmp_path / 'missing'}, which is no folder" in finding
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    assert found("real data") == ("--", f"{tmp_path}: no set that the course knows")
    (tmp_path / "nuclei_dsb2018").mkdir()
    assert found("real data") == ("OK", f"{tmp_path}: nuclei")


def test_sets_that_were_fetched(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path))
    assert found("real data") == ("--", "UNETLAB_DATA is not set: the synthetic scenes are used instead")
    (tmp_path / "data/nuclei_dsb2018").mkdir(parents=True)
    assert found("real data") == ("OK", f"{tmp_path / 'data'}: nuclei")


def test_real_data_here(real_data):
    status, finding = found("real data")
    assert status == "OK" and str(real_data) in finding


def test_threads(installed):
    assert found("threads")[1].startswith(f"torch computes with {torch.get_num_threads()} of ")
