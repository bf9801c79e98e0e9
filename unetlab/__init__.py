"""unetlab: learn to train a U-Net, with the training run in your hand. ``import unetlab as ul``."""

import os

# Threads that wait shall sleep, not spin: beside a busy browser, spinning made a training step ten times slower.
# OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from unetlab.augment import Augment, make_augment
from unetlab.checkpoint import CheckpointError
from unetlab.controls import Controls, Script
from unetlab.datasets import Dataset, Split, load_folder
from unetlab.early_stopping import EarlyStopping, replay_early_stopping
from unetlab.ema import EMA
from unetlab.files import DataError
from unetlab.history import History, Move
from unetlab.losses import CompoundLoss, DiceLoss, FocalLoss, TverskyLoss, weight_map
from unetlab.lr_finder import RangeTest, lr_range_test
from unetlab.metrics import SegmentationMetrics, dice_score, iou_score
from unetlab.model import UNet, receptive_field
from unetlab.plots import describe_history, plot_history, plot_images, plot_predictions, show, use_style
from unetlab.realsets import available_datasets, load_dataset
from unetlab.schedulers import make_scheduler, schedule_preview
from unetlab.training import Trainer

__version__ = "0.1.0"


def __getattr__(name: str):
    """``LiveLab`` is loaded when it is first asked for: who trains without widgets need not wait for them."""
    if name == "LiveLab":
        from unetlab.lab.live_lab import LiveLab

        return LiveLab
    raise AttributeError(f"module 'unetlab' has no attribute {name!r}")
