"""What all tests share: one thread, the folder of real data, repeatable random examples."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the same digits on every number of cores
os.environ["UNETLAB_CACHE"] = tempfile.mkdtemp(
    prefix="unetlab-tests-"
)  # what the user has fetched is no test's concern
atexit.register(shutil.rmtree, os.environ["UNETLAB_CACHE"], ignore_errors=True)
if SHARED_DATA.is_dir():
    os.environ.setdefault("UNETLAB_DATA", str(SHARED_DATA))

hypothesis.settings.load_profile("ci")  # the same examples in each run, and no deadline on a busy machine


def pytest_report_header():
    return "real data: " + os.environ.get("UNETLAB_DATA", "none, its tests are SKIPPED; let UNETLAB_DATA name a folder")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets; a test that asks for it is skipped, and listed, where there is none."""
    if "UNETLAB_DATA" not in os.environ:
        pytest.skip("no real data: UNETLAB_DATA is not set and ../shared/data does not exist")
    return Path(os.environ["UNETLAB_DATA"])
