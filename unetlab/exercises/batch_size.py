"""Checkers for the exercises of ``02c_batch_size``. Each answers right, wrong (because ...) or not attempted."""

import copy
import math
from collections.abc import Callable, Sequence
from numbers import Number

import torch
from torch import Tensor

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong
from unetlab.losses import CompoundLoss
from unetlab.model import UNet

LEVEL = 0.03  # of Dice: within the spread of the seeds


def check_steps_per_epoch(function: Callable) -> Verdict:
    """``steps_per_epoch(images, batch_size, drop_last)``: how many steps an epoch has, with the short last batch or not."""
    for images, batch in ((96, 16), (100, 16), (104, 16), (108, 16), (10, 16), (96, 1)):
        for drop in (False, True):
            whole, rest = divmod(images, batch)
            truth = whole + (rest > 0 and not drop)
            case = f"for {images} images in batches of {batch} and drop_last={drop}"
            answer = function(images, batch, drop)
            if answer is None or answer is Ellipsis:
                return not_attempted("your function returns nothing yet: count the batches of an epoch.")
            if isinstance(answer, bool) or not isinstance(answer, Number):
                return wrong(f"{case} it returns a {type(answer).__name__}, not a number of steps.")
            if answer != int(answer):
                return wrong(f"{case} you say {answer:g}: there is no part of a step. Round, and mind the direction.")
            if answer == truth:
                continue
            if rest == 0:
                return wrong(
                    f"{case} you say {answer}, it is {truth}: the images fill {whole} batches and none is left."
                )
            if not drop and answer == whole:
                return wrong(f"{case} you say {answer}: the {rest} images left over make a short batch: a step too.")
            if drop and whole == 0:
                return wrong(
                    f"{case} you say {answer}: the only batch is short and is dropped. No step, nothing is learnt."
                )
            if drop and answer == whole + 1:
                return wrong(
                    f"{case} you say {answer}: the short batch of {rest} images is dropped, and its step with it."
                )
            return wrong(f"{case} you say {answer}, it is {truth}: {whole} full batches and {rest} images left over.")
    return right(
        "the short last batch is a step, unless it is dropped. Drop it in training only, never when you evaluate."
    )


def check_rate(rate: float | None, dice_large: Sequence[float], dice_small: Sequence[float]) -> Verdict:
    """Whether a large batch, at a rate tuned for it, is level with a small one after as many steps.

    Args:
        rate: the learning rate of the large batch; None is not an attempt.
        dice_large, dice_small: the validation Dice of each seed, three seeds at least; ``dice_small`` is the mark.
    """
    if rate is None or rate is Ellipsis:
        return not_attempted("write a learning rate in place of None, and run the cell again.")
    if isinstance(rate, bool) or not isinstance(rate, Number) or not 0 < rate < math.inf:
        return wrong(f"{rate!r} is no learning rate: a positive number, such as 0.002.")
    if min(len(dice_large), len(dice_small)) < 3:
        return wrong("fewer than three seeds were run, and a single one may just be lucky. Train at least three.")
    large, small = (sum(dice) / len(dice) for dice in (dice_large, dice_small))
    score = f"at the rate {rate:g} the large batch has a mean Dice of {large:.2f}, the small one {small:.2f}"
    if large >= small - LEVEL:
        return right(f"{score}: level after as many steps. The batch was not at fault, the rate was.")
    if rate <= 1e-3:
        return wrong(f"{score}. You kept the rate or lowered it; with so few steps each of them must go further.")
    if rate >= 0.1:
        return wrong(
            f"{score}. That is too far: the steps overshoot. The linear rule, rate times 24, was found for SGD."
        )
    return wrong(f"{score}. Compare a rate three times higher and one three times lower; follow the better one.")


def check_accumulate(function: Callable) -> Verdict:
    """``accumulate(model, loss, images, masks, part)`` leaves the gradient of all images in the parameters' ``grad``.

    It looks at ``part`` images at a time; the last part may be smaller. ``loss(logits, masks)`` is a mean over images.
    """
    torch.manual_seed(0)
    model, loss = UNet(base_channels=2, depth=1, norm="group").double(), CompoundLoss()
    images, masks = torch.rand(10, 1, 8, 8, dtype=torch.float64), torch.randint(0, 2, (10, 8, 8))
    part, case = 4, "for 10 images in parts of 4, 4 and 2"
    before = copy.deepcopy(model.state_dict())

    def gradient(weights: list[float]) -> Tensor:
        """That of the three parts, each with a weight."""
        model.zero_grad()
        for images_, masks_, weight in zip(images.split(part), masks.split(part), weights, strict=True):
            (weight * loss(model(images_), masks_)).backward()
        return _flat(model)

    truth = gradient([0.4, 0.4, 0.2])
    old = gradient([1, -1, 0])  # left over from some step before
    known = {
        "the gradient of an earlier step is still in it: set the gradients to zero before the first part.": truth + old,
        "you weigh the parts alike: the 2 images of the last part count twice as much as the others.": gradient(
            [1 / 3] * 3
        ),
        "the last part has 2 images, not 4: its weight is its own length over that of the batch.": gradient([0.4] * 3),
        "you add up means. A sum of three means is too long: weigh each part by its share of the images.": gradient(
            [1] * 3
        ),
        "you add up sums: each image weighs 1 in it, not 1/10.": gradient([4, 4, 2]),
        "only the last part is in it: the gradients were set to zero inside the loop.": gradient([0, 0, 0.2]),
        "only the last part is in it, and not weighted: zero the gradients before the loop, not in it.": gradient(
            [0, 0, 1]
        ),
        "the last, short part is missing: the loop ends too early.": gradient([0.4, 0.4, 0]),
        "the last, short part is missing, and each part weighs one half.": gradient([0.5, 0.5, 0]),
    }
    gradient([1, -1, 0])
    function(model, loss, images, masks, part)
    answer = _flat(model)
    if any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()):
        return wrong("the weights changed. Leave the step to the optimizer: only the gradients are asked for.")
    if torch.equal(answer, old):
        return not_attempted("your function leaves the gradients as they were: go through the parts, with backward().")
    if not answer.any():
        return wrong(f"{case} all gradients are zero: did you call backward() on the loss of each part?")
    if _close(answer, truth):
        return right("the gradient of ten images, four at a time, is that of one batch of ten.")
    for because, gradient_ in known.items():
        if _close(answer, gradient_) or _close(answer, gradient_ + old):
            return wrong(f"{case} {because}")
    ratio = (answer.norm() / truth.norm()).item()
    turned = math.degrees(math.acos(max(-1.0, min(1.0, torch.cosine_similarity(answer, truth, dim=0).item()))))
    return wrong(
        f"{case} your gradient is {ratio:.2f} times as long as that of the batch and {turned:.0f} degrees off."
    )


def _flat(model: UNet) -> Tensor:
    """All gradients of a network as one vector; zeros where there is none."""
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )


def _close(answer: Tensor, truth: Tensor) -> bool:
    return bool((answer - truth).norm() < 1e-6 * truth.norm())
