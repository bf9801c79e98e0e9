"""Checkers for the exercises of ``05a_tricks``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# Paired gains in Dice over five seeds, with their 95 % intervals; made up for the exercise.
ROWS = {
    "A": (0.004, -0.006, 0.014),
    "B": (0.021, 0.012, 0.030),
    "C": (-0.015, -0.027, -0.003),
    "D": (0.018, -0.031, 0.067),
}
WORDS = ("helps", "hurts", "no conclusion")


class _Slanted(nn.Module):
    """A network that answers otherwise on the left than on the right, and above than below, so that a mirror matters."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return images * torch.linspace(8, 1, width) - torch.linspace(1, 3, height)[:, None]


def check_flip_average(function: Callable) -> Verdict:
    """``flip_average(model, images)``: the mean probability over an image and its mirror, (N, 1, H, W)."""
    images, model = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(0)), _Slanted()
    plain, mirrored = model(images), model(images.flip(3))
    answer = function(model, images.clone())
    if answer is None or answer is Ellipsis:
        return not_attempted("your function returns nothing yet: probabilities of the same shape as the images.")
    if not isinstance(answer, Tensor) or answer.shape != images.shape:
        return wrong(f"it does not return a tensor {tuple(images.shape)}, one probability a pixel.")
    truth = (plain.sigmoid() + mirrored.sigmoid().flip(3)) / 2
    known = {
        "the prediction of the mirror was not mirrored back: left and right lie on each other.": (
            plain.sigmoid() + mirrored.sigmoid()
        )
        / 2,
        "the logits were averaged, and then squeezed. Squeeze first: the mean is to be one of probabilities.": (
            (plain + mirrored.flip(3)) / 2
        ).sigmoid(),
        "these are logits. Apply the sigmoid.": (plain + mirrored.flip(3)) / 2,
        "the picture was turned upside down, not mirrored: dimension 3 runs from left to right.": (
            plain.sigmoid() + model(images.flip(2)).sigmoid().flip(2)
        )
        / 2,
        "you voted with finished masks. The mean of the probabilities keeps how sure each view was.": (
            (plain > 0).float() + (mirrored.flip(3) > 0).float()
        )
        / 2,
        "this is the plain prediction: the mirror had no say.": plain.sigmoid(),
        "it is the sum of the two, not their mean.": 2 * truth,
    }
    if torch.allclose(answer.float(), truth, atol=1e-6):
        return right("two looks at each picture, at twice the price, and no training.")
    for because, values in known.items():
        if torch.allclose(answer.float(), values, atol=1e-6):
            return wrong(because)
    return wrong(
        "the probabilities are not the mean over image and mirror. Write the two predictions down, one after the other."
    )


def check_reading(answer: Mapping[str, str] | None) -> Verdict:
    """What each row of ``ROWS`` allows one to say: a dict from its letter to one of ``WORDS``."""
    if not answer or all(word is None for word in answer.values()):
        return not_attempted(f"write one of {', '.join(map(repr, WORDS))} beside each letter.")
    for letter, (gain, low, high) in ROWS.items():
        word, interval = answer.get(letter), f"[{low:+.3f}, {high:+.3f}]"
        truth = "helps" if low > 0 else "hurts" if high < 0 else "no conclusion"
        if word not in WORDS:
            return wrong(f"{letter} has the word {word!r}: choose one of {', '.join(map(repr, WORDS))}.")
        if word == truth:
            continue
        if truth == "no conclusion":
            size = "a large gain" if abs(gain) > 0.01 else "a gain"
            return wrong(
                f"{letter} has {size}, but its interval {interval} holds zero: another five seeds may turn it round."
            )
        if word == "no conclusion":
            return wrong(
                f"the interval of {letter}, {interval}, lies on one side of zero: that is a conclusion, if a small one."
            )
        return wrong(f"look at the sign of {letter}: its interval is {interval}.")
    return right(
        "not the size of a gain counts, but whether its interval reaches zero. D may well be the best; nobody knows yet."
    )
