"""The checkers of appendix A3: every known wrong answer has its message, the folded solutions are right."""

import math

import numpy as np
import pytest
import torch
from checkers import said, solved_by

from unetlab.exercises.initialisation import (
    LAYERS,
    check_fold,
    check_incoming,
    check_prior_bias,
    check_weight_std,
)


@pytest.fixture
def solved():
    return solved_by("A3_initialisation_and_normalisation")


def test_the_folded_solutions_are_right(solved):
    assert said(check_incoming(solved["incoming"]), "right", "0.0589")
    assert said(check_weight_std(solved["weight_std"]), "right")
    assert said(check_fold(solved["fold"]), "right", "one convolution does the work of two")
    assert said(check_prior_bias(solved["my_bias"]), "right", "one pixel in fifty")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_incoming(dict.fromkeys(LAYERS, nothing)), "not attempted", "beside each layer")
    assert said(check_incoming(None), "not attempted")
    assert said(check_weight_std(lambda layer, input_rms, wanted: nothing), "not attempted", "replace the dots")
    assert said(check_fold(lambda conv, norm: nothing), "not attempted", "replace the dots")
    assert said(check_prior_bias(nothing), "not attempted", "put your number in place of the dots")


# ----------------------------------------------------------------------------------------------------- incoming values

RIGHT = {name: truth for name, (truth, _) in LAYERS.items()}


@pytest.mark.parametrize(
    ("name", "answer", "message"), [(name, n, text) for name, (_, k) in LAYERS.items() for n, text in k.items()]
)
def test_known_wrong_counts(name, answer, message):
    assert said(check_incoming(RIGHT | {name: answer}), "wrong", f"{name}: N is not {answer}; {message}")


def test_other_wrong_counts():
    first, last = (list(RIGHT)[i] for i in (0, -1))
    assert said(check_incoming(RIGHT | {last: 7}), "wrong", "count places of the kernel times channels")
    assert said(check_incoming(RIGHT | {last: "many"}), "wrong", "'many' is a str, not a number")
    assert said(check_incoming({first: 576}), "wrong", "has no number yet")


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_count_is_what_arrives_at_an_output_value(name):
    """Ones in, weights of one: each output value is N (away from the border)."""
    channels = int(name.split("from ")[1].split()[0])
    kernel = int(name[0])
    kind, stride = (torch.nn.ConvTranspose2d, 2) if "up" in name else (torch.nn.Conv2d, 1)
    layer = kind(channels, 64, kernel, stride=stride, bias=False)
    torch.nn.init.ones_(layer.weight)
    assert (layer(torch.ones(1, channels, 3, 3)) == RIGHT[name]).all()


# ---------------------------------------------------------------------------------------------------- size of weights


def n_of(layer):
    return layer.in_channels * layer.kernel_size[0] ** 2


def exact(layer, rms, wanted):
    return wanted / (rms * math.sqrt(n_of(layer)))


STDS = {
    "the 2 of He makes up for a ReLU": lambda c, r, w: math.sqrt(2) * exact(c, r, w),
    "that is the variance; take its root": lambda c, r, w: exact(c, r, w) ** 2,
    "variances add up, standard deviations do not": lambda c, r, w: w / (r * n_of(c)),
    "divide by their rms too": lambda c, r, w: w / math.sqrt(n_of(c)),
    "the wanted size is missing": lambda c, r, w: 1 / (r * math.sqrt(n_of(c))),
    "it must depend on the size that comes in": lambda c, r, w: 1 / math.sqrt(n_of(c)),
    "that is He's value": lambda c, r, w: math.sqrt(2 / n_of(c)),
    "larger values coming in need smaller weights": lambda c, r, w: w * r / math.sqrt(n_of(c)),
    "N counts the places of the kernel too": lambda c, r, w: w / (r * math.sqrt(c.in_channels)),
    "N counts the channels too": lambda c, r, w: w / (r * c.kernel_size[0]),
    "a kernel has height times width places": lambda c, r, w: w / (r * math.sqrt(c.in_channels * c.kernel_size[0])),
    "N counts the channels that come in": lambda c, r, w: w / (r * math.sqrt(c.kernel_size[0] ** 2 * c.out_channels)),
    "you say 5, and the output would have size 180": lambda c, r, w: 5,
    "it returns a str, not a number": lambda c, r, w: "small",
    "it returns a Tensor, not a number": lambda c, r, w: torch.ones(3),
}


@pytest.mark.parametrize("message", STDS)
def test_wrong_sizes_of_weights(message):
    assert said(check_weight_std(STDS[message]), "wrong", message)


@pytest.mark.parametrize("kind", [float, np.float64, torch.tensor])
def test_the_exact_size_is_right_in_every_type(kind):
    assert said(check_weight_std(lambda *args: kind(exact(*args))), "right")


def test_the_right_size_is_the_real_one():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(64, 64, 3, bias=False)
    torch.nn.init.normal_(layer.weight, std=exact(layer, 2.0, 0.5))
    assert layer(2 * torch.randn(4, 64, 16, 16)).std().item() == pytest.approx(0.5, rel=0.03)


# ------------------------------------------------------------------------------------------------------------ folding


def parts(conv, norm):
    """weight, bias, gamma, beta, mean, standard deviation."""
    return conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, torch.sqrt(norm.running_var + norm.eps)


def folding(weight_of, bias_of):
    def fold(conv, norm):
        w, b, gamma, beta, mean, std = parts(conv, norm)
        return weight_of(w, gamma, std, norm), bias_of(b, gamma, beta, mean, std)

    return fold


def by_output(factor):
    return factor[:, None, None, None]


def good_weight(w, gamma, std, norm):
    return w * by_output(gamma / std)


def good_bias(b, gamma, beta, mean, std):
    return (b - mean) * gamma / std + beta


def scaled(scale_of):
    """A fold that is right but for its factor ``scale_of(norm)``."""

    def fold(conv, norm):
        factor = scale_of(norm)
        return conv.weight * by_output(factor), (conv.bias - norm.running_mean) * factor + norm.bias

    return fold


def swapped_axes(conv, norm):
    w, b, gamma, beta, mean, std = parts(conv, norm)
    return w * (gamma / std)[:, None, None], good_bias(b, gamma, beta, mean, std)


FOLDS = {
    "you multiplied input channels": swapped_axes,
    "the variance is not the standard deviation": scaled(lambda n: n.weight / (n.running_var + n.eps)),
    "eps is missing": scaled(lambda n: n.weight / n.running_var.sqrt()),
    "eps stands under the root": scaled(lambda n: n.weight / (n.running_var.sqrt() + n.eps)),
    "gamma (norm.weight) is missing": scaled(lambda n: 1 / torch.sqrt(n.running_var + n.eps)),
    "the convolution's own bias is missing": folding(good_weight, lambda b, g, be, m, s: be - m * g / s),
    "it is multiplied like the weight": folding(good_weight, lambda b, g, be, m, s: b + be - m * g / s),
    "the running mean is missing": folding(good_weight, lambda b, g, be, m, s: b * g / s + be),
    "the running mean is subtracted, not added": folding(good_weight, lambda b, g, be, m, s: (b + m) * g / s + be),
    "the running mean is divided": folding(good_weight, lambda b, g, be, m, s: b * g / s - m + be),
    "beta (norm.bias) is missing": folding(good_weight, lambda b, g, be, m, s: (b - m) * g / s),
    "the bias is still that of the convolution": folding(good_weight, lambda b, g, be, m, s: b),
    "the weight is off": folding(lambda w, g, s, n: w, good_bias),
    "the weight is right, the bias is not": folding(good_weight, lambda b, g, be, m, s: b * 0),
    "the weight has the shape (4,)": folding(lambda w, g, s, n: g / s, good_bias),
    "the bias has the shape (1, 4)": folding(good_weight, lambda *args: good_bias(*args)[None]),
    "it must return two tensors": lambda conv, norm: conv.weight,
}


@pytest.mark.parametrize("message", FOLDS)
def test_wrong_folds(message):
    assert said(check_fold(FOLDS[message]), "wrong", message)


def test_the_good_fold_is_right():
    assert said(check_fold(folding(good_weight, good_bias)), "right")


# --------------------------------------------------------------------------------------------------------- prior bias

ODDS = 0.02 / 0.98
BIASES = {
    math.log(0.02): "that is log(0.02): close here",
    -math.log(ODDS): "the sign is turned round",
    -math.log(0.02): "turned round, and not divided",
    0.02: "that is the share itself",
    ODDS: "those are the odds",
    math.log10(ODDS): "to base 10",
    math.log2(ODDS): "to base 2",
    math.log(2 / 0.98): "2 % is 0.02, not 2",
    1 / (1 + math.exp(-0.02)): "that is sigmoid(0.02)",
    0: "makes the network expect 50.0% foreground",
    -1e9: "makes the network expect 0.0% foreground",
    "-3.89": "'-3.89' is a str, not a number",
}


@pytest.mark.parametrize("answer", BIASES, ids=str)
def test_wrong_biases(answer):
    assert said(check_prior_bias(answer), "wrong", BIASES[answer])


def test_the_right_bias_is_what_the_package_sets():
    from unetlab.model import UNet

    model = UNet(base_channels=4, depth=1)
    model.set_output_prior(0.02)
    for answer in (model.head.bias.detach(), -3.89, -3.9, np.log(ODDS)):
        assert said(check_prior_bias(answer), "right")
