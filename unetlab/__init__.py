"""unetlab: learn to train a U-Net, with the training run in your hand. ``import unetlab as ul``."""

import importlib
import os

# Threads that wait shall sleep, not spin: beside a busy browser, spinning made a training step ten times slower.
# OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from unetlab.augment import Augment, make_augment
from unetlab.checkpoint import CheckpointError
from unetlab.controls import Controls, Script
from unetlab.early_stopping import EarlyStopping, replay_early_stopping, replay_prechelt, smooth
from unetlab.ema import EMA
from unetlab.history import History, Move
from unetlab.losses import CompoundLoss, DiceLoss, FocalLoss, TverskyLoss, weight_map
from unetlab.lr_finder import RangeTest, lr_range_test
from unetlab.metrics import SegmentationMetrics, dice_score, iou_score
from unetlab.model import UNet, receptive_field
from unetlab.schedulers import make_scheduler, schedule_preview
from unetlab.training import Trainer

__version__ = "0.1.0"


# Loaded when first asked for: who only trains need not wait for figures, file formats and widgets.
_LATER = {
    "LiveLab": "lab.live_lab",
    **dict.fromkeys(["Dataset", "Split", "load_folder"], "datasets"),
    "DataError": "files",
    **dict.fromkeys(
        ["describe_history", "plot_history", "plot_images", "plot_predictions", "show", "use_style"], "plots"
    ),
    **dict.fromkeys(["available_datasets", "load_dataset"], "realsets"),
}


def __getattr__(name: str):
    if name in _LATER:
        value = getattr(importlib.import_module(f"unetlab.{_LATER[name]}"), name)
    elif name in _LATER.values():  # ul.plots
        value = importlib.import_module(f"unetlab.{name}")
    else:
        raise AttributeError(f"module 'unetlab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
