"""What a run is made from: every name, every form, and an error for what does not fit."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import squares, trainer, unet
from torch import nn

import unetlab as ul
from unetlab.ingredients import (
    LOSSES,
    OPTIMIZERS,
    as_tensors,
    check_class_ids,
    choose_device,
    choose_precision,
    crop_to,
    make_loss,
    make_optimizer,
)

CPU = torch.device("cpu")


def test_device():
    assert choose_device("cpu") == CPU
    assert choose_device(CPU) == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else choose_device("auto").type)


def test_precision():
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("auto", CPU) == "fp32"
    with pytest.raises(ValueError, match="precision must be auto, fp32 or bf16, not 'fp16'"):
        choose_precision("fp16", CPU)


# --------------------------------------------------------------------------------------------------------------- losses

LOGITS, TARGETS = torch.linspace(-3, 2, 32).view(2, 1, 4, 4), torch.arange(32).view(2, 4, 4) % 2


@pytest.mark.parametrize(
    "name, same",
    [
        ("compound", ul.CompoundLoss()),
        ("ce", ul.CompoundLoss(lambda_dice=0.0)),
        ("dice", ul.DiceLoss()),
        ("tversky", ul.TverskyLoss()),
        ("focal", ul.FocalLoss()),
    ],
)
def test_loss_names(name, same):
    assert set(LOSSES) == {"compound", "ce", "dice", "tversky", "focal"}
    assert make_loss(name, None)(LOGITS, TARGETS) == same(LOGITS, TARGETS)
    ignoring = make_loss(name, 1)
    assert ignoring(LOGITS, TARGETS) != same(LOGITS, TARGETS)


def test_loss_with_options():
    made = make_loss({"name": "tversky", "alpha": 0.2, "beta": 0.8}, None)
    assert made(LOGITS, TARGETS) == ul.TverskyLoss(0.2, 0.8)(LOGITS, TARGETS)
    assert make_loss({"name": "dice", "ignore_index": 3}, 255).ignore_index == 3


def test_loss_of_your_own():
    module = ul.DiceLoss(smooth=1.0)
    assert make_loss(module, None) is module
    made = make_loss(lambda logits, targets: logits.mean() + targets.float().mean(), None)
    assert isinstance(made, nn.Module)
    assert made(LOGITS, TARGETS).item() == pytest.approx(-0.5 + 0.5, abs=1e-6)


def test_unknown_loss():
    with pytest.raises(ValueError, match="unknown loss 'bce': choose one of compound, ce, dice, tversky, focal"):
        make_loss("bce", None)


# ----------------------------------------------------------------------------------------------------------- optimizers


@pytest.mark.parametrize(
    "name, kind",
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_optimizer_names(name, kind):
    assert name in OPTIMIZERS and len(OPTIMIZERS) == 4
    optimizer = make_optimizer(name, unet().parameters(), 0.01, CPU)
    assert type(optimizer).__bases__ == (kind,) and type(optimizer).__name__ == kind.__name__
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.01
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
def test_optimizers_do_what_those_of_torch_do(kind):
    """To the last bit, also when a state is loaded on the way."""
    networks = unet(), unet()
    networks[1].load_state_dict(networks[0].state_dict())
    ours = make_optimizer(kind.__name__.lower(), networks[0].parameters(), 0.01, CPU)
    usual = inspect.signature(kind).parameters
    theirs = kind(networks[1].parameters(), **{k: v for k, v in ours.defaults.items() if k in usual})
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for step in range(4):
        for network, optimizer in zip(networks, (ours, theirs), strict=True):
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()
            if step == 1:
                optimizer.load_state_dict(optimizer.state_dict())
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_optimizer_with_options():
    optimizer = make_optimizer({"name": "sgd", "momentum": 0.5, "weight_decay": 0.1}, unet().parameters(), 1.0, CPU)
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0.1)


def test_optimizer_of_your_own():
    made = make_optimizer(
        lambda parameters, lr: torch.optim.Adagrad(parameters, lr=lr / 2), unet().parameters(), 1, CPU
    )
    assert isinstance(made, torch.optim.Adagrad) and made.param_groups[0]["lr"] == 0.5


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="unknown optimizer 'lion': choose one of adamw, adam, sgd, rmsprop"):
        make_optimizer("lion", unet().parameters(), 0.1, CPU)


# ----------------------------------------------------------------------------------------------------------------- data


def test_every_form_of_data():
    images, masks = squares(3)
    expected = as_tensors((images, masks), "train", CPU)
    assert expected[0].dtype == expected[1].dtype == torch.uint8
    for form in (
        SimpleNamespace(images=images, masks=masks),
        [images, masks],
        (images.numpy(), masks.numpy()),
    ):
        assert all(torch.equal(a, b) for a, b in zip(as_tensors(form, "train", CPU), expected, strict=True))
    floats, _ = as_tensors((images.double() / 255, masks), "train", CPU)
    assert floats.dtype == torch.float32 and floats.max() <= 1


IMAGES, MASKS = squares(3)


@pytest.mark.parametrize(
    "data, message",
    [
        (None, "train must be a Split or a pair"),
        (IMAGES, "train must be a Split or a pair"),
        ((IMAGES,), "train must be a Split or a pair"),
        (("a", "b"), "train must be a Split or a pair"),
        ((IMAGES[:0], MASKS[:0]), "train needs at least one image"),
        ((IMAGES[:, 0], MASKS), r"train needs .* images \(N, C, H, W\) and masks \(N, H, W\), not \(3, 16, 16\)"),
        ((IMAGES, MASKS[:, None]), "train needs at least one image, as images"),
        ((IMAGES, MASKS[:2]), r"images \(3, 1, 16, 16\) and masks \(2, 16, 16\) do not fit together"),
        ((IMAGES, MASKS[:, :8]), "do not fit together"),
        ((IMAGES, MASKS.float()), "masks must be integer class ids, not torch.float32"),
        ((IMAGES.float() * np.nan, MASKS), "the images hold NaN or infinite values"),
        ((IMAGES / 0.0, MASKS), "the images hold NaN or infinite values"),
    ],
)
def test_data_that_do_not_fit(data, message):
    with pytest.raises(ValueError, match=message):
        as_tensors(data, "train", CPU)


@pytest.mark.parametrize("classes, good", [(1, [0, 1]), (2, [0, 1]), (4, [0, 3]), (4, [2])])
def test_class_ids_inside(classes, good):
    masks = torch.tensor(good, dtype=torch.uint8)
    check_class_ids(masks, classes, None, "train")
    check_class_ids(torch.cat([masks, torch.tensor([255], dtype=torch.uint8)]), classes, 255, "train")


def test_class_ids_outside():
    check = lambda values, classes: check_class_ids(torch.tensor(values), classes, None, "val")  # noqa: E731
    with pytest.raises(ValueError, match=r"val: the masks hold \[3, 7\], outside the classes 0..2"):
        check([0, 7, 3, 1], 3)
    with pytest.raises(ValueError, match="-1"):
        check([-1, 0], 2)
    with pytest.raises(ValueError, match=r"hold \[255\].*0/255 masks\? Use masks > 127"):
        check([0, 255], 1)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_refuses_255_masks_with_the_remedy(split):
    images, masks = squares(4)
    pairs = {"train": (images, masks), "val": (images, masks)} | {split: (images, masks * 255)}
    with pytest.raises(ValueError, match=rf"{split}: the masks hold \[255\].*Use masks > 127"):
        ul.Trainer(unet(), **pairs)
    pairs[split] = (images, masks * 255 > 127)  # the remedy works
    ul.Trainer(unet(), **pairs).fit(1, verbose=False)


def test_crop_to_the_centre():
    masks = torch.arange(100).view(1, 10, 10)
    assert torch.equal(crop_to(masks, torch.zeros(1, 1, 4, 6)), masks[:, 3:7, 2:8])
    assert torch.equal(crop_to(masks, torch.zeros(1, 2, 10, 10)), masks)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"lr": 0.0}, "lr must be a finite learning rate above 0"),
        ({"lr": -1.0}, "lr must be"),
        ({"loss": "bce"}, "unknown loss 'bce'"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'"),
        ({"precision": "fp16"}, "precision must be"),
        ({"augment": "heavy"}, "unknown augmentation 'heavy'"),
        ({"ema": 1.0}, "ema must lie in"),
    ],
)
def test_wrong_settings_of_a_run(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


def test_channels_that_differ():
    with pytest.raises(ValueError, match="train has 3 channels and val 1"):
        ul.Trainer(unet(in_channels=3), squares(2, channels=3), squares(2))
