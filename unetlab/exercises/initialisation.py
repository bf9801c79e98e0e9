"""Checkers for the exercises of ``A3_initialisation_and_normalisation``: right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable, Mapping
from numbers import Number

import torch
from torch import Tensor, nn

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# Name of a layer: N, and what the usual wrong numbers come from.
LAYERS = {
    "3x3 from 64 channels": (
        576,
        {
            9: "each output value looks at all 64 channels, not at one",
            64: "each channel is looked at in nine places",
            73: "nine places of 64 channels each: multiply, do not add",
            577: "N counts incoming values; the bias multiplies none",
            576 * 64: "that counts the weights of 64 outputs; N belongs to one of them",
            576 * 128: "that counts the weights of 128 outputs; N belongs to one of them",
        },
    ),
    "3x3 from 1 channel": (
        9,
        {
            576: "this layer sees the picture itself, which has one channel",
            1: "the single channel is looked at in nine places",
            10: "N counts incoming values; the bias multiplies none",
        },
    ),
    "1x1 from 64 channels": (
        64,
        {
            576: "that is a 3x3 kernel; this one looks at a single pixel",
            1: "one pixel, but all of its 64 channels",
            65: "N counts incoming values; the bias multiplies none",
        },
    ),
    "2x2 up-convolution, stride 2, from 128 channels": (
        128,
        {
            512: "the four places of the kernel go to four different output pixels, so each of these meets only one place",
            4: "each output value sums over the channels of the pixel it comes from",
            256: "that is what torch's fan_in would say for 64 output channels; count what arrives at one output value",
            129: "N counts incoming values; the bias multiplies none",
        },
    ),
}


def check_incoming(incoming: Mapping[str, int | None] | None) -> Verdict:
    """N, how many incoming values one output value sums over, by the name of the layer (``LAYERS``)."""
    incoming = incoming or {}
    if not any(isinstance(answer, Number) for answer in incoming.values()):
        return not_attempted("write the number of incoming values beside each layer.")
    for name, (truth, known) in LAYERS.items():
        answer = incoming.get(name)
        if answer is None or answer is Ellipsis:
            return wrong(f"{name!r} has no number yet.")
        if not isinstance(answer, Number):
            return wrong(f"{name}: {answer!r} is a {type(answer).__name__}, not a number.")
        if answer != truth:
            return wrong(
                f"{name}: N is not {answer}; {known.get(answer, 'count places of the kernel times channels')}."
            )
    return right(f"576, 9, 64 and 128. The first needs weights of standard deviation {math.sqrt(2 / 576):.4f}.")


def check_weight_std(function: Callable) -> Verdict:
    """``weight_std(layer, input_rms, wanted)``: the standard deviation to draw the weights of a ``Conv2d`` with.

    ``input_rms``: root mean square of the values that come in. ``wanted``: standard deviation of the values that go out,
    before any activation.
    """
    for channels, kernel, rms, wanted in ((64, 3, 1.5, 0.7), (16, 5, 2.0, 0.6), (32, 1, 0.5, 3.0)):
        layer = nn.Conv2d(channels, 8, kernel, bias=False)
        answer, n = function(layer, rms, wanted), kernel**2 * channels
        case = f"for {kernel}x{kernel} from {channels} channels, rms {rms:g} in and {wanted:g} wanted,"
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
        if isinstance(answer, Tensor) and answer.numel() == 1:
            answer = answer.item()
        if not isinstance(answer, Number):
            return wrong(f"{case} it returns a {type(answer).__name__}, not a number.")
        truth = wanted / (rms * math.sqrt(n))
        if math.isclose(answer, truth, rel_tol=1e-3):
            continue
        known = {
            math.sqrt(2) * truth: "the 2 of He makes up for a ReLU, and here there is none.",
            truth**2: "that is the variance; take its root.",
            wanted / (rms * n): "variances add up, standard deviations do not: divide by the root of N.",
            wanted / math.sqrt(n): "the values that come in do not have size 1: divide by their rms too.",
            1 / (rms * math.sqrt(n)): "the wanted size is missing.",
            1 / math.sqrt(n): "it must depend on the size that comes in and on the size wanted.",
            math.sqrt(2 / n): "that is He's value: it must depend on the size that comes in and on the size wanted.",
            wanted * rms / math.sqrt(n): "larger values coming in need smaller weights: divide by the rms.",
            wanted / (rms * math.sqrt(channels)): "N counts the places of the kernel too, not the channels alone.",
            wanted / (rms * kernel): "N counts the channels too, not the places of the kernel alone.",
            wanted / (rms * math.sqrt(kernel * channels)): "a kernel has height times width places.",
            wanted / (rms * math.sqrt(kernel**2 * 8)): "N counts the channels that come in, not those that go out.",
        }
        why = next((text for value, text in known.items() if math.isclose(answer, value, rel_tol=1e-3)), "")
        return wrong(
            f"{case} you say {answer:.4g}, and the output would have size {wanted * answer / truth:.3g}. {why}".rstrip()
        )
    return right("the output has the wanted size, whatever comes in.")


def check_fold(function: Callable) -> Verdict:
    """``fold(conv, norm)``: weight and bias of the one convolution that equals ``norm(conv(x))`` in evaluation mode."""
    conv, norm, x = _convolution_and_norm()
    answer = function(conv, norm)
    if answer is None or answer is Ellipsis:
        return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(a, Tensor) for a in answer)):
        return wrong("it must return two tensors: the weight and the bias of the new convolution.")
    weight, bias = (a.detach() for a in answer)
    for name, got, shape in (("weight", weight, conv.weight.shape), ("bias", bias, conv.bias.shape)):
        if got.shape != shape:
            return wrong(f"the {name} has the shape {tuple(got.shape)}, and that of the convolution is {tuple(shape)}.")
    with torch.no_grad():
        expected = norm.eval()(conv(x))
        got = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    if torch.allclose(got, expected, atol=1e-4, rtol=1e-4):
        return right("one convolution does the work of two layers: nothing is left to compute at inference.")
    for text, (known_weight, known_bias) in _foldings(conv, norm).items():
        if torch.allclose(weight, known_weight, rtol=1e-3) and torch.allclose(bias, known_bias, rtol=1e-3, atol=1e-5):
            return wrong(text)
    scale, shift = _scale(norm), norm.bias.detach()
    if not torch.allclose(weight, conv.weight.detach() * scale[:, None, None, None], rtol=1e-3):
        return wrong("the weight is off. Each output channel is multiplied by gamma / sqrt(running_var + eps).")
    return wrong(
        f"the weight is right, the bias is not. What becomes of a channel where conv gives 0? Beta is {shift}."
    )


def _convolution_and_norm() -> tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]:
    """A pair with nothing at its default, as many channels in as out, and one channel of tiny variance, where eps counts."""
    generator = torch.Generator().manual_seed(0)
    conv, norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
    with torch.no_grad():
        for tensor in (conv.weight, conv.bias, norm.running_mean, norm.bias):
            tensor.normal_(generator=generator)
        norm.running_var.copy_(torch.tensor([1e-5, 0.5, 2.0, 4.0]))
        norm.weight.copy_(torch.tensor([0.5, 1.5, -2.0, 3.0]))
    return conv, norm, torch.randn(2, 4, 6, 6, generator=generator)


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    return norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)


def _foldings(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> dict[str, tuple[Tensor, Tensor]]:
    """What comes out of the usual mistakes, by what is to be said of them."""
    weight, bias, scale = conv.weight.detach(), conv.bias.detach(), _scale(norm)
    gamma, beta, mean, var = norm.weight.detach(), norm.bias.detach(), norm.running_mean, norm.running_var

    def outputs(factor):  # one factor for each output channel
        return weight * factor[:, None, None, None]

    def shifted(factor):
        return (bias - mean) * factor + beta

    return {
        "you multiplied input channels: the weight has the shape (out, in, 3, 3), and the norm sees the outputs.": (
            weight * scale[:, None, None],
            shifted(scale),
        ),
        "the variance is not the standard deviation: take the root of running_var + eps.": (
            outputs(gamma / (var + norm.eps)),
            shifted(gamma / (var + norm.eps)),
        ),
        "eps is missing. It is small, but so is the variance of the first channel.": (
            outputs(gamma / var.sqrt()),
            shifted(gamma / var.sqrt()),
        ),
        "eps stands under the root, beside the variance.": (
            outputs(gamma / (var.sqrt() + norm.eps)),
            shifted(gamma / (var.sqrt() + norm.eps)),
        ),
        "gamma (norm.weight) is missing.": (outputs(scale / gamma), shifted(scale / gamma)),
        "the convolution's own bias is missing: it too is normalised.": (outputs(scale), beta - mean * scale),
        "the convolution's own bias is normalised too: it is multiplied like the weight.": (
            outputs(scale),
            bias + beta - mean * scale,
        ),
        "the running mean is missing from the bias.": (outputs(scale), bias * scale + beta),
        "the running mean is subtracted, not added.": (outputs(scale), (bias + mean) * scale + beta),
        "the running mean is divided by the standard deviation too.": (outputs(scale), bias * scale - mean + beta),
        "beta (norm.bias) is missing.": (outputs(scale), (bias - mean) * scale),
        "the bias is still that of the convolution: mean, scale and beta go into it.": (outputs(scale), bias),
    }


def check_prior_bias(answer: float | None) -> Verdict:
    """The bias of the last layer for a foreground share of 2 %: log(0.02 / 0.98) = -3.892."""
    if answer is None or answer is Ellipsis:
        return not_attempted("put your number in place of the dots.")
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if not isinstance(answer, Number):
        return wrong(f"{answer!r} is a {type(answer).__name__}, not a number.")
    odds = 0.02 / 0.98
    if math.isclose(answer, math.log(odds), abs_tol=0.01):
        return right("sigmoid(-3.89) = 0.02: the untrained network already expects one pixel in fifty.")
    known = {
        math.log(
            0.02
        ): "that is log(0.02): close here, but divide by 1 - 0.02 first. For a share of one half it must be 0.",
        -math.log(odds): "the sign is turned round: this network expects 98 % foreground.",
        -math.log(0.02): "that is -log(0.02): turned round, and not divided by 1 - 0.02.",
        0.02: "that is the share itself; the bias is a logit.",
        odds: "those are the odds; take their logarithm.",
        math.log10(odds): "that is the logarithm to base 10; the sigmoid has e in it.",
        math.log2(odds): "that is the logarithm to base 2; the sigmoid has e in it.",
        math.log(2 / 0.98): "2 % is 0.02, not 2.",
        1 / (1 + math.exp(-0.02)): "that is sigmoid(0.02); the bias is what the sigmoid turns into 0.02.",
    }
    why = next((text for value, text in known.items() if math.isclose(answer, value, rel_tol=2e-3)), None)
    if why is None:
        share = 1 / (1 + math.exp(-min(max(answer, -500), 500)))
        why = f"a bias of {answer:g} makes the network expect {share:.1%} foreground."
    return wrong(why)
