"""Test-time augmentation, deep supervision and label smoothing: what they must and must not change."""

import pytest
import torch

import unetlab as ul
from unetlab.tricks import DeepSupervision, average_views, smooth_labels


def small(**options):
    torch.manual_seed(0)
    return ul.UNet(base_channels=2, depth=2, **options)


def test_views_come_back_in_place():
    images = torch.rand(2, 1, 8, 8)
    assert torch.allclose(average_views(torch.nn.Identity(), images), images.sigmoid(), atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_mean_of_the_views_turns_with_the_image(classes):
    model, images = small(num_classes=classes), torch.rand(2, 1, 16, 16)
    plain = average_views(model, images)
    assert plain.shape == (2, classes, 16, 16) and not model.training
    assert classes == 1 or torch.allclose(plain.sum(1), torch.ones(2, 16, 16), atol=1e-5)
    assert torch.allclose(average_views(model, images.rot90(1, (2, 3))), plain.rot90(1, (2, 3)), atol=1e-5)
    assert torch.allclose(average_views(model, images.flip(3)), plain.flip(3), atol=1e-5)


def test_views_of_oblong_images_are_refused():
    with pytest.raises(ValueError, match=r"square images, not \(8, 16\)"):
        average_views(small(), torch.rand(1, 1, 8, 16))


def test_deep_supervision_is_the_plain_network_in_evaluation():
    plain = small()
    deep, images = DeepSupervision(plain), torch.rand(2, 1, 16, 16)
    masks = (torch.rand(2, 16, 16) > 0.5).long()
    deep.eval()
    assert torch.equal(deep(images), plain(images))
    assert deep.loss(ul.CompoundLoss())(deep(images), masks) == ul.CompoundLoss()(plain(images), masks)


def test_deep_supervision_asks_every_level_in_training():
    deep, images = DeepSupervision(small()), torch.rand(2, 1, 16, 16)
    masks = (torch.rand(2, 16, 16) > 0.5).long()
    base = ul.CompoundLoss()
    logits = deep.train()(images)
    assert [tuple(side.shape) for side in deep.side] == [(2, 1, 8, 8)]
    up = torch.nn.functional.interpolate(deep.side[0], scale_factor=2, mode="bilinear")
    expected = (base(logits, masks) + 0.5 * base(up, masks)) / 1.5
    loss = deep.loss(base)(logits, masks)
    assert torch.isclose(loss, expected)
    loss.backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in deep.heads)


def test_deep_supervision_trains_with_the_trainer():
    data = ul.load_dataset("cells", n=(8, 4, 1), size=16)
    deep = DeepSupervision(small())
    trainer = ul.Trainer(deep, data.train, data.val, loss=deep.loss(ul.CompoundLoss()), batch_size=4, device="cpu")
    before = deep.heads[0].weight.detach().clone()
    history = trainer.fit(2, verbose=None)
    assert len(history) == 2 and not torch.equal(before, deep.heads[0].weight)


def test_smoothed_labels():
    targets = torch.tensor([[[0, 1]]])
    assert torch.allclose(smooth_labels(targets, 0.1), torch.tensor([[[[0.05, 0.95]]]]))
    assert torch.equal(smooth_labels(targets, 0.0), targets[:, None].float())
    with pytest.raises(ValueError, match="smoothing must lie in"):
        smooth_labels(targets, 1.0)
