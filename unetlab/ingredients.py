"""What a run is made from: names and raw data become the device, the loss, the optimizer and the tensors of the loop."""

import inspect

import torch
from torch import Tensor, nn, optim

from unetlab.early_stopping import EarlyStopping
from unetlab.losses import CompoundLoss, DiceLoss, FocalLoss, TverskyLoss
from unetlab.schedulers import Scheduler


def _eager(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The same optimizer without what its methods ask torch's compiler: the first question imports all of that, 800
    modules and some seconds of waiting, in a process that compiles nothing."""
    asking = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in asking}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})


AdamW, Adam, SGD, RMSprop = map(_eager, (optim.AdamW, optim.Adam, optim.SGD, optim.RMSprop))
OPTIMIZERS = {
    "adamw": (AdamW, {}),
    "adam": (Adam, {}),
    "sgd": (SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (RMSprop, {}),
}
LOSSES = {
    "compound": CompoundLoss,
    "ce": lambda **kw: CompoundLoss(lambda_dice=0.0, **kw),
    "dice": DiceLoss,
    "tversky": TverskyLoss,
    "focal": FocalLoss,
}


def choose_device(device: str) -> torch.device:
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # one of several, where each process has its own
    if device != "auto":
        return torch.device(device)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, not {precision!r}")
    if precision == "auto":  # on a CPU bf16 autocast was slower than float32 on most machines
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def make_loss(loss, ignore_index: int | None) -> nn.Module:
    if callable(loss):
        return loss if isinstance(loss, nn.Module) else _LossModule(loss)
    options = dict(loss) if isinstance(loss, dict) else {"name": loss}
    name = options.pop("name")
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}: choose one of {', '.join(LOSSES)}, or pass a callable")
    return LOSSES[name](**{"ignore_index": ignore_index} | options)


class _LossModule(nn.Module):
    """A plain function as a module, so that every loss can be moved to a device."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.function(logits, targets)


def make_optimizer(optimizer, parameters, lr: float, device: torch.device) -> optim.Optimizer:
    if callable(optimizer):
        return optimizer(parameters, lr=lr)
    options = dict(optimizer) if isinstance(optimizer, dict) else {"name": optimizer}
    name = options.pop("name")
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}, or pass a callable")
    kind, defaults = OPTIMIZERS[name]
    fused = {} if name == "rmsprop" or device.type == "mps" else {"fused": True}  # one kernel for all parameters
    return kind(parameters, lr=lr, **fused | defaults | options)


def as_tensors(data, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """A split or a pair as images (N, C, H, W) and masks (N, H, W) on the device; raises ValueError."""
    pair = (data.images, data.masks) if hasattr(data, "images") else data
    try:
        images, masks = (torch.as_tensor(x) for x in pair)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a Split or a pair (images, masks) of tensors or arrays") from None
    if images.dim() != 4 or masks.dim() != 3 or not len(images):
        raise ValueError(
            f"{name} needs at least one image, as images (N, C, H, W) and masks (N, H, W), "
            f"not {tuple(images.shape)} and {tuple(masks.shape)}"
        )
    if images.shape[:1] + images.shape[2:] != masks.shape:
        raise ValueError(f"{name}: images {tuple(images.shape)} and masks {tuple(masks.shape)} do not fit together")
    if masks.is_floating_point():
        raise ValueError(f"{name}: masks must be integer class ids, not {masks.dtype}")
    if images.dtype != torch.uint8:
        images = images.float()
        if not bool(images.isfinite().all()):
            raise ValueError(f"{name}: the images hold NaN or infinite values")
    return images.to(device), masks.to(device)


def check_class_ids(masks: Tensor, num_classes: int, ignore_index: int | None, name: str) -> None:
    allowed = set(range(max(num_classes, 2))) | ({ignore_index} if ignore_index is not None else set())
    wrong = sorted(set(masks.unique().tolist()) - allowed)
    if wrong:
        hint = "; 0/255 masks? Use masks > 127" if 255 in wrong else ""
        raise ValueError(f"{name}: the masks hold {wrong[:5]}, outside the classes 0..{max(num_classes, 2) - 1}{hint}")


def crop_to(masks: Tensor, logits: Tensor) -> Tensor:
    """The centre of the masks that an unpadded network predicts; all of it for a padded one."""
    (height, width), (h, w) = masks.shape[-2:], logits.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    return masks[..., top : top + h, left : left + w]


def discords(schedule: Scheduler, stopping: EarlyStopping | None, epochs: int) -> list[str]:
    """Where a schedule and early stopping work against each other in a run of so many epochs; to be said to the learner."""
    notes = []
    if stopping and schedule.horizon_bound:
        notes.append(
            f"the {schedule.name} schedule does its best work at the end of its {epochs} epochs; early stopping may cut it "
            "off. Use a constant or plateau schedule with early stopping, or train to the end"
        )
    if stopping and schedule.name == "plateau" and stopping.patience <= schedule.torch_scheduler.patience + 1:
        plateau = schedule.torch_scheduler.patience
        notes.append(
            f"early stopping (patience {stopping.patience}) ends the run before plateau (patience {plateau}) can lower the "
            f"rate, after {plateau + 1} bad evaluations. Use a patience of {2 * plateau + 4} or more"
        )
    return notes
