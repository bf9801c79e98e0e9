"""Is everything here that the course needs? One line a thing: OK, or FAIL with the remedy.

``unetlab doctor`` on the command line, ``check_setup()`` in the first cell of the course.
"""

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator

import torch

from unetlab.model import UNet
from unetlab.realsets import available_datasets, data_root


def check_setup() -> bool:
    """Print one line a check and return whether all that is needed is there. Optional things never fail."""
    complete = True
    for status, name, finding in checks():
        complete &= status != "FAIL"
        print(f"{status:4}  {name:12}  {finding}")
    print("\nReady." if complete else "\nNot ready: mend the lines marked FAIL, then restart the kernel.")
    return complete


def checks() -> Iterator[tuple[str, str, str]]:
    """(status, name, finding) of each check; status is OK, FAIL, or "--" for something optional that is not there."""
    version = platform.python_version()
    yield (
        _status(sys.version_info >= (3, 11)),
        "Python",
        f"{version}" + ("" if sys.version_info >= (3, 11) else ": need 3.11"),
    )
    try:
        requirements = importlib.metadata.requires("unetlab") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
        yield "FAIL", "unetlab", "not installed: run  python course.py lab  or  pip install -e ."
    for requirement in requirements:
        if "extra ==" not in requirement:
            yield _check_package(requirement)
    yield _check_training()
    yield _check_gpu()
    yield "OK", "threads", f"torch computes with {torch.get_num_threads()} of {os.cpu_count()} processors"
    yield _check_lab()
    yield _check_data()


def _check_package(requirement: str) -> tuple[str, str, str]:
    name, least = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?", requirement).groups()
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "FAIL", name, f"not installed: pip install '{requirement}'"
    if least and _numbers(found) < _numbers(least):
        return "FAIL", name, f"{found} is too old: pip install --upgrade '{requirement}'"
    return "OK", name, found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]


def _check_training() -> tuple[str, str, str]:
    """One real training step of a small network."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = UNet(base_channels=4, depth=2)
        loss = model(torch.rand(2, 1, 20, 20)).square().mean()
        loss.backward()
    works = all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    return (
        _status(works),
        "a step",
        "a small U-Net trained one step" if works else "gradients are missing or not finite",
    )


def _check_gpu() -> tuple[str, str, str]:
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return "OK", "GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        return "OK", "GPU", "Apple GPU through MPS"
    return "--", "GPU", "none: the course runs on the processor; a GPU only makes it faster"


def _check_lab() -> tuple[str, str, str]:
    try:
        return "OK", "notebooks", f"JupyterLab {importlib.metadata.version('jupyterlab')}"
    except importlib.metadata.PackageNotFoundError:
        return (
            "--",
            "notebooks",
            "JupyterLab is not installed here: pip install 'unetlab[lab]', or use another front end",
        )


def _check_data() -> tuple[str, str, str]:
    named, folder = os.environ.get("UNETLAB_DATA"), data_root()
    if named and not folder.is_dir():
        return "FAIL", "real data", f"UNETLAB_DATA names {folder}, which is no folder: correct it or unset it"
    found = [row.name for row in available_datasets() if row.kind == "real" and row.folder]
    if not named and not found:
        return "--", "real data", "UNETLAB_DATA is not set: the synthetic scenes are used instead"
    return ("OK" if found else "--"), "real data", f"{folder}: {', '.join(found) or 'no set that the course knows'}"


def _status(good: bool) -> str:
    return "OK" if good else "FAIL"
