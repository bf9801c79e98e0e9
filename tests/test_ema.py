"""The moving average of a network: its formula, its buffers, its limits."""

import pytest
import torch

import unetlab as ul


def moving_model():
    torch.manual_seed(0)
    model = ul.UNet(base_channels=2, depth=1)
    return model, ul.EMA(model, decay=0.9)


def stir(model):
    """New weights, and new BatchNorm statistics."""
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    model.train()(torch.rand(2, 1, 8, 8))


def test_formula():
    """After n updates the old average weighs min(decay, (1 + n) / (10 + n)): 1/10, 2/11, 3/12, ... up to decay."""
    model, ema = moving_model()
    expected = [p.detach().double().clone() for p in model.parameters()]
    weights = []
    for n in range(100):
        stir(model)
        ema.update(model)
        weights.append(min(0.9, (1 + n) / (10 + n)))
        expected = [
            weights[-1] * old + (1 - weights[-1]) * new.detach().double()
            for old, new in zip(expected, model.parameters(), strict=True)
        ]
    assert weights[0] == 0.1 and weights[79] < 0.9 == weights[80]
    for average, value in zip(ema.module.parameters(), expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-5)


def test_batchnorm_statistics_are_averaged_too_and_its_counters_copied():
    model, ema = moving_model()
    name = "encoder.0.1.running_mean"
    expected = model.state_dict()[name].clone()
    for n in range(3):
        stir(model)
        ema.update(model)
        weight = (1 + n) / (10 + n)
        expected = weight * expected + (1 - weight) * model.state_dict()[name]
    torch.testing.assert_close(ema.module.state_dict()[name], expected)
    assert ema.module.state_dict()["encoder.0.1.num_batches_tracked"] == 3


def test_it_is_a_copy_for_evaluation():
    model, ema = moving_model()
    before = {name: value.clone() for name, value in ema.module.state_dict().items()}
    stir(model)
    assert all(torch.equal(before[name], value) for name, value in ema.module.state_dict().items())
    ema.update(model)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=r"ema must lie in \(0, 1\)"):
        ul.EMA(ul.UNet(base_channels=1, depth=1), decay)
