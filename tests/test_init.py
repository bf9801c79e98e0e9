"""``import unetlab``: quick, and yet everything is there."""

import subprocess
import sys

import pytest

import unetlab as ul

LATER = {"pandas", "scipy", "matplotlib", "nibabel", "tifffile", "PIL", "ipywidgets", "anywidget", "IPython"}


def test_import_waits_for_nothing_that_training_does_not_need():
    """It costs hardly more than `import torch`: tables, figures, file formats and widgets come when they are used."""
    program = "import sys, torch; before = set(sys.modules); import unetlab; print(*sys.modules.keys() - before)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "unetlab.training" in said
    assert LATER & set(said) == set()


def test_a_run_does_not_load_the_compiler():
    """torch's optimizers load all of it, seconds before the first step; ours do not."""
    program = """
import sys, torch, unetlab as ul
data = torch.zeros(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.uint8)
for optimizer in ("adamw", "adam", "sgd", "rmsprop"):
    run = ul.Trainer(ul.UNet(base_channels=2, depth=1), data, data, optimizer=optimizer, grad_clip=1.0, ema=0.9)
    run.fit(2, verbose=False)
    run.fork(at_epoch=1).fit(verbose=False)
    print(optimizer, run.step, "torch._dynamo" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{name} 2 False" for name in ("adamw", "adam", "sgd", "rmsprop")]


def test_every_public_name_is_there():
    assert all(getattr(ul, name) is not None for name in dir(ul) if not name.startswith("_"))
    assert {"LiveLab", "load_dataset", "plot_history", "DataError", "Split", "Trainer"} <= set(dir(ul))
    assert ul.plots.show is ul.show
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ul.nothing
