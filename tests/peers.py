"""Parts of segmentation-models-pytorch, as a peer for losses and metrics.

Only its files that need nothing but torch are loaded, past its own ``__init__``: that one imports torchvision, which has
no plain CPU build.
"""

import importlib
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest


def smp(part: str, module: str):
    """A module of a part of SMP: ``smp("losses", "dice")``. Where SMP is not installed the test is skipped, and listed."""
    spec = find_spec("segmentation_models_pytorch")
    if spec is None:
        pytest.skip("PEER MISSING: pip install --no-deps segmentation-models-pytorch (course.py does)")
    package = types.ModuleType(f"smp_{part}")
    package.__path__ = [str(Path(spec.origin).parent / part)]
    sys.modules.setdefault(package.__name__, package)
    return importlib.import_module(f"{package.__name__}.{module}")
