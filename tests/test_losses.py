"""Losses against MONAI, segmentation-models-pytorch, torch, and the formulas written out in numpy.

Where the definitions of the field differ, the test says how.
"""

import monai.losses
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import smp

import unetlab as ul

KINDS = ("random", "full", "empty", "one empty")
IGNORED = 255


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def case(classes, kind="random", n=3, size=12, seed=0):
    """Logits (n, C, size, size) and class ids (n, size, size); ``classes`` is 1 for binary."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((n, classes, size, size), generator=generator) * 3
    targets = torch.randint(max(classes, 2), (n, size, size), generator=generator)
    if kind == "full":
        targets[:] = max(classes, 2) - 1
    if kind == "empty":
        targets[:] = 0
    if kind == "one empty":
        targets[1] = 0
    return logits, targets


def with_ignored(targets):
    targets = targets.clone()
    targets[:, 3:7, 2:9] = IGNORED
    return targets


def monai_loss(kind, classes, **options):
    activation = {"sigmoid": True} if classes == 1 else {"softmax": True, "to_onehot_y": True}
    loss = kind(**activation | options)
    return lambda logits, targets: loss(logits, targets[:, None].float() if classes == 1 else targets[:, None])


ALL_LOSSES = {
    "dice": ul.DiceLoss(ignore_index=IGNORED),
    "dice squared": ul.DiceLoss(squared=True, ignore_index=IGNORED),
    "dice smooth 1": ul.DiceLoss(smooth=1.0, ignore_index=IGNORED),
    "tversky": ul.TverskyLoss(0.3, 0.7, ignore_index=IGNORED),
    "focal": ul.FocalLoss(ignore_index=IGNORED),
    "ce": ul.CompoundLoss(lambda_dice=0, ignore_index=IGNORED),
    "weighted ce": ul.CompoundLoss(lambda_dice=0, class_weights=[1.0, 3.0], ignore_index=IGNORED),
    "compound": ul.CompoundLoss(ignore_index=IGNORED),
}
each_loss = pytest.mark.parametrize("name", ALL_LOSSES)


def classes_for(name):
    return (1, 2) if name == "weighted ce" else (1, 2, 4)


# --------------------------------------------------------------------------------------------------------------- Dice


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_dice_equals_monai(classes, kind, squared, per_image, smooth):
    logits, targets = case(classes, kind)
    theirs = monai_loss(
        monai.losses.DiceLoss,
        classes,
        squared_pred=squared,
        batch=not per_image,
        smooth_nr=smooth,
        smooth_dr=smooth,
    )
    ours = ul.DiceLoss(smooth, squared, per_image)
    assert ours(logits, targets).item() == pytest.approx(theirs(logits, targets).item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_image", [False, True])
def test_dice_without_background_equals_monai(kind, per_image):
    logits, targets = case(4, kind)
    theirs = monai_loss(monai.losses.DiceLoss, 4, include_background=False, batch=not per_image)
    ours = ul.DiceLoss(per_image=per_image, include_background=False)
    assert ours(logits, targets).item() == pytest.approx(theirs(logits, targets).item(), abs=1e-6)


def smp_dice(classes, smooth, ignore_index=None):
    return smp("losses", "dice").DiceLoss(
        "binary" if classes == 1 else "multiclass",
        smooth=smooth / 2,  # its fraction is ours divided by two
        ignore_index=ignore_index,
    )


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
@pytest.mark.parametrize("ignore_index", [None, IGNORED])
def test_dice_equals_smp(classes, smooth, ignore_index):
    logits, targets = case(classes)
    targets = targets if ignore_index is None else with_ignored(targets)
    theirs = smp_dice(classes, smooth, ignore_index)
    batch = ul.DiceLoss(smooth, per_image=False, ignore_index=ignore_index)(logits, targets)
    assert batch.item() == pytest.approx(theirs(logits, targets).item(), abs=1e-6)
    singly = [theirs(logits[i : i + 1], targets[i : i + 1]).item() for i in range(len(logits))]
    per_image = ul.DiceLoss(smooth, ignore_index=ignore_index)(logits, targets)
    assert per_image.item() == pytest.approx(np.mean(singly), abs=1e-6)


def test_dice_differs_from_smp_on_absent_classes():
    """SMP gives a class that the whole batch lacks the loss 0; here any false alarm for it costs."""
    logits, targets = case(1, "empty")
    assert smp_dice(1, 1e-5)(logits, targets).item() == 0
    assert ul.DiceLoss(per_image=False)(logits, targets).item() == pytest.approx(1, abs=1e-4)

    logits, targets = case(4)
    targets[targets == 2] = 0
    ours = ul.DiceLoss(1e-5, per_image=False)(logits, targets).item()
    absent = 1 - 1e-5 / (logits.softmax(1)[:, 2].sum().item() + 1e-5)
    assert ours == pytest.approx(smp_dice(4, 1e-5)(logits, targets).item() + absent / 4, abs=1e-6)


def test_dice_of_255_masks():
    """A mask of 0/255 makes the "Dice" of a perfect prediction 2 * 255 / 256: the loss turns negative."""
    logits, targets = torch.full((1, 1, 8, 8), 50.0), torch.full((1, 8, 8), 255)
    assert 1 - ul.DiceLoss()(logits, targets).item() == pytest.approx(1.992, abs=5e-4)


# ---------------------------------------------------------------------------------------- Tversky, focal, cross-entropy


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha, beta", [(0.5, 0.5), (0.3, 0.7), (1.0, 1.0)])
@pytest.mark.parametrize("per_image", [False, True])
def test_tversky_equals_monai(classes, kind, alpha, beta, per_image):
    logits, targets = case(classes, kind)
    theirs = monai_loss(monai.losses.TverskyLoss, classes, alpha=alpha, beta=beta, batch=not per_image)
    ours = ul.TverskyLoss(alpha, beta, per_image=per_image)
    assert ours(logits, targets).item() == pytest.approx(theirs(logits, targets).item(), abs=1e-6)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_tversky_holds_dice_and_jaccard(classes, kind):
    logits, targets = case(classes, kind)
    half = ul.TverskyLoss(0.5, 0.5, smooth=0.5)
    assert half(logits, targets).item() == pytest.approx(ul.DiceLoss(smooth=1.0)(logits, targets).item(), abs=1e-6)
    jaccard = monai_loss(monai.losses.DiceLoss, classes, jaccard=True)  # there the smoothing is doubled on both sides
    ours = ul.TverskyLoss(1.0, 1.0, smooth=0.5e-5)
    assert ours(logits, targets).item() == pytest.approx(jaccard(logits, targets).item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_binary_focal_equals_monai(kind, gamma, alpha):
    logits, targets = case(1, kind)
    theirs = monai.losses.FocalLoss(gamma=gamma, alpha=alpha)(logits, targets[:, None])
    assert ul.FocalLoss(gamma, alpha)(logits, targets).item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_of_classes_equals_peers(classes, gamma):
    """MONAI divides by the number of classes once more, as it takes the mean over the channels of the truth too."""
    logits, targets = case(classes)
    theirs = monai.losses.FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True)(logits, targets[:, None])
    ours = ul.FocalLoss(gamma)(logits, targets).item()
    assert ours == pytest.approx(theirs.item() * classes, rel=1e-6)
    other = smp("losses", "_functional").softmax_focal_loss_with_logits(logits, targets, gamma)
    assert ours == pytest.approx(other.item(), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_focal_without_focus_is_cross_entropy(classes):
    logits, targets = case(classes)
    ce = ul.CompoundLoss(lambda_dice=0)(logits, targets)
    assert ul.FocalLoss(gamma=0)(logits, targets).item() == pytest.approx(ce.item(), rel=1e-6)


def torch_ce(logits, targets, **options):
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, targets[:, None].float(), **options)
    return F.cross_entropy(logits, targets, **options)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_is_torchs(classes, kind):
    logits, targets = case(classes, kind)
    assert ul.CompoundLoss(lambda_dice=0)(logits, targets).item() == pytest.approx(torch_ce(logits, targets).item())


@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_are_torchs(kind):
    """torch divides by the sum of the weights; here too, image by image."""
    logits, targets = case(4, kind)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    theirs = [F.cross_entropy(logits[i : i + 1], targets[i : i + 1], weights).item() for i in range(3)]
    ours = ul.CompoundLoss(lambda_dice=0, class_weights=weights)(logits, targets).item()
    assert ours == pytest.approx(np.mean(theirs), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_binary_class_weights_are_two_class_weights(kind):
    """A one-channel logit z is the two-class logits (0, z)."""
    logits, targets = case(1, kind)
    loss = ul.CompoundLoss(lambda_dice=0, class_weights=[1.0, 5.0])
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    assert loss(logits, targets).item() == pytest.approx(loss(two, targets).item(), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_ignored_pixels_of_cross_entropy_are_torchs(classes):
    logits, targets = case(classes)
    targets = with_ignored(targets)
    theirs = F.cross_entropy(logits, targets, ignore_index=IGNORED)  # the same number of ignored pixels in every image
    ours = ul.CompoundLoss(lambda_dice=0, ignore_index=IGNORED)(logits, targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("lambda_ce, lambda_dice", [(1.0, 1.0), (0.3, 2.0)])
def test_compound_equals_monai(classes, lambda_ce, lambda_dice):
    logits, targets = case(classes)
    theirs = monai_loss(monai.losses.DiceCELoss, classes, lambda_ce=lambda_ce, lambda_dice=lambda_dice)
    ours = ul.CompoundLoss(lambda_ce, lambda_dice)
    assert ours(logits, targets).item() == pytest.approx(theirs(logits, targets).item(), rel=1e-6)


def test_compound_takes_another_region_loss():
    logits, targets = case(1)
    loss = ul.CompoundLoss(0.5, 2.0, dice=ul.TverskyLoss(0.3, 0.7))
    by_hand = 0.5 * torch_ce(logits, targets) + 2 * ul.TverskyLoss(0.3, 0.7)(logits, targets)
    assert loss(logits, targets).item() == pytest.approx(by_hand.item())


def test_pixel_weights():
    logits, targets = case(1)
    weights = torch.rand(targets.shape) * 5
    pixels = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float(), reduction="none")
    ours = ul.CompoundLoss(lambda_dice=0)(logits, targets, weights)
    assert ours.item() == pytest.approx((pixels * weights).mean().item())


def test_a_second_sigmoid_leaves_a_floor():
    """Probabilities taken for logits: even a sure and right answer costs 0.3133 where there is something, else 0.6931."""
    sure = torch.full((1, 1, 4, 4), 40.0)
    ce = ul.CompoundLoss(lambda_dice=0)
    assert ce(sure.sigmoid(), torch.ones(1, 4, 4)).item() == pytest.approx(0.3133, abs=1e-4)
    assert ce((-sure).sigmoid(), torch.zeros(1, 4, 4)).item() == pytest.approx(0.6931, abs=1e-4)


# ------------------------------------------------------------------------------------------------------ half precision


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_large_images(name, dtype):
    """The sum over 512 x 512 ones is infinite in float16, and coarse in bfloat16."""
    assert torch.ones(512, 512, dtype=torch.float16).sum().isinf()
    for classes in classes_for(name)[:2]:
        logits = torch.randn(2, classes, 512, 512)
        targets = (torch.rand(2, 512, 512) < 0.9).long()
        exact = ALL_LOSSES[name](logits, targets).item()
        half = logits.to(dtype).requires_grad_()
        loss = ALL_LOSSES[name](half, targets)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact, abs=1e-3)  # the logits themselves were rounded
        loss.backward()
        assert half.grad.isfinite().all()


@each_loss
def test_autocast_changes_nothing(name):
    logits, targets = case(1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ALL_LOSSES[name](logits, targets)
    assert inside.item() == ALL_LOSSES[name](logits, targets).item()


# ----------------------------------------------------------------------------------------------------------- gradients


def probabilities(logits):
    """In float64: (N, classes, pixels)."""
    if logits.shape[1] == 1:
        return (1 / (1 + np.exp(-logits))).reshape(len(logits), 1, -1)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).reshape(*logits.shape[:2], -1)


def truth(targets, classes):
    flat = targets.reshape(len(targets), 1, -1)
    return flat == 1 if classes == 1 else flat == np.arange(classes)[:, None]


def numpy_dice(p, g, squared=False):
    under = (p**2).sum(-1) + g.sum(-1) if squared else p.sum(-1) + g.sum(-1)
    return 1 - np.mean((2 * (p * g).sum(-1) + 1e-5) / (under + 1e-5))


def numpy_tversky(p, g):
    tp, fp, fn = (p * g).sum(-1), (p * ~g).sum(-1), ((1 - p) * g).sum(-1)
    return 1 - np.mean((tp + 1e-5) / (tp + 0.3 * fp + 0.7 * fn + 1e-5))


def numpy_focal(p, g, gamma=2):
    right = np.where(g, p, 1 - p) if p.shape[1] == 1 else (p * g).sum(1)
    return np.mean(-((1 - right) ** gamma) * np.log(right))


NUMPY_LOSSES = {
    "dice": (ul.DiceLoss(), numpy_dice),
    "dice squared": (ul.DiceLoss(squared=True), lambda p, g: numpy_dice(p, g, squared=True)),
    "tversky": (ul.TverskyLoss(0.3, 0.7), numpy_tversky),
    "focal": (ul.FocalLoss(2.0), numpy_focal),
    "compound": (ul.CompoundLoss(), lambda p, g: numpy_focal(p, g, gamma=0) + numpy_dice(p, g)),
}


@pytest.mark.parametrize("name", NUMPY_LOSSES)
@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_against_finite_differences(name, classes):
    ours, formula = NUMPY_LOSSES[name]
    logits, targets = case(classes, n=2, size=4)
    logits.requires_grad_()
    loss = ours(logits, targets)
    loss.backward()

    x, g = logits.detach().double().numpy(), truth(targets.numpy(), classes)
    assert loss.item() == pytest.approx(formula(probabilities(x), g), abs=1e-6)
    differences = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = 1e-5
        differences[i] = (formula(probabilities(x + step), g) - formula(probabilities(x - step), g)) / 2e-5
    np.testing.assert_allclose(logits.grad.numpy(), differences, atol=1e-6, rtol=1e-4)


def empty_images():
    """False alarms on images without foreground: p = 0.12 everywhere."""
    return torch.full((4, 1, 64, 64), -2.0, requires_grad=True), torch.zeros(4, 64, 64, dtype=torch.long)


def test_empty_masks_give_dice_no_gradient():
    logits, targets = empty_images()
    loss = ul.DiceLoss()(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-6)
    assert logits.grad.norm() < 1e-6


def test_empty_masks_are_taught_by_cross_entropy():
    logits, targets = empty_images()
    ul.CompoundLoss()(logits, targets).backward()
    by_hand = torch.sigmoid(torch.tensor(-2.0)) / logits.numel()  # the gradient of cross-entropy is (p - g) / pixels
    torch.testing.assert_close(logits.grad, torch.full_like(logits, by_hand), rtol=1e-3, atol=0)


def test_empty_masks_predicted_empty_cost_nothing():
    logits = torch.full((2, 1, 16, 16), -40.0)
    assert ul.DiceLoss()(logits, torch.zeros(2, 16, 16)).item() == pytest.approx(0, abs=1e-6)


@each_loss
def test_ignored_pixels_count_nowhere(name):
    for classes in classes_for(name):
        logits, targets = case(classes)
        targets = with_ignored(targets % 2 if name == "weighted ce" else targets)
        logits.requires_grad_()
        loss = ALL_LOSSES[name](logits, targets)
        loss.backward()
        ignored = (targets == IGNORED)[:, None].expand_as(logits)
        assert not logits.grad[ignored].any()
        assert logits.grad[~ignored].all()
        other = torch.where(ignored, torch.randn_like(logits) * 20, logits.detach())
        assert ALL_LOSSES[name](other, targets).item() == pytest.approx(loss.item(), rel=1e-6)


@each_loss
def test_an_image_of_ignored_pixels_adds_nothing(name):
    logits, targets = case(1, n=2)
    targets[1] = IGNORED
    both = ALL_LOSSES[name](logits.requires_grad_(), targets)
    both.backward()
    assert both.item() == pytest.approx(ALL_LOSSES[name](logits[:1], targets[:1]).item() / 2, rel=1e-6)
    assert logits.grad.isfinite().all() and not logits.grad[1].any()


# ------------------------------------------------------------------------------------------------------------ batches


@each_loss
def test_grouping_of_images_changes_nothing(name):
    for classes in classes_for(name):
        logits, targets = case(classes, n=6)
        targets[0, :6] = IGNORED
        targets[3] = 0
        loss = ALL_LOSSES[name]
        together = loss(logits, targets).item()
        singly = np.mean([loss(logits[i : i + 1], targets[i : i + 1]).item() for i in range(6)])
        in_two = (2 * loss(logits[:2], targets[:2]).item() + 4 * loss(logits[2:], targets[2:]).item()) / 6
        assert together == pytest.approx(singly, abs=1e-6)
        assert together == pytest.approx(in_two, abs=1e-6)


def test_dice_over_the_batch_depends_on_the_grouping():
    """A well predicted large object hides a missed small one."""
    targets = torch.zeros(2, 32, 32, dtype=torch.long)
    targets[0, :, :16] = 1
    targets[1, :3, :3] = 1
    logits = torch.where(targets == 1, 6.0, -6.0)[:, None]
    logits[1] = -6.0
    batch, image = ul.DiceLoss(per_image=False), ul.DiceLoss()
    assert batch(logits, targets) < 0.05
    assert image(logits, targets) > 0.45
    singly = (batch(logits[:1], targets[:1]) + batch(logits[1:], targets[1:])) / 2
    assert singly.item() == pytest.approx(image(logits, targets).item(), abs=1e-6)


# --------------------------------------------------------------------------------------------------------- properties


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([1, 2, 5]),
    size=st.integers(1, 12),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1000.0]),
    name=st.sampled_from(["dice", "dice squared", "dice smooth 1", "tversky"]),
)
def test_region_losses_lie_between_0_and_1(seed, classes, size, scale, name):
    logits, targets = case(classes, size=size, seed=seed)
    loss = ALL_LOSSES[name](logits * scale, targets).item()
    assert -1e-6 <= loss <= 1 + 1e-6


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([1, 2, 5]),
    kind=st.sampled_from(KINDS),
    name=st.sampled_from([name for name in ALL_LOSSES if name != "weighted ce"]),
)
def test_a_perfect_prediction_costs_nothing(seed, classes, kind, name):
    _, targets = case(classes, kind, seed=seed)
    logits = (targets[:, None] == torch.arange(max(classes, 2))[:, None, None]) * 80.0 - 40
    assert ALL_LOSSES[name](logits[:, 1:] if classes == 1 else logits, targets).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
@each_loss
def test_binary_targets_of_every_type_and_shape(name, dtype):
    logits, targets = case(1)
    expected = ALL_LOSSES[name](logits, targets).item()
    assert ALL_LOSSES[name](logits, targets.to(dtype)).item() == expected
    assert ALL_LOSSES[name](logits, targets.to(dtype)[:, None]).item() == expected


@each_loss
def test_uint8_masks_of_classes(name):
    """The data sets hold uint8, where 255 (ignored) must not become a class."""
    classes = classes_for(name)[-1]
    logits, targets = case(max(classes, 2))
    targets = with_ignored(targets)
    assert ALL_LOSSES[name](logits, targets.byte()).item() == ALL_LOSSES[name](logits, targets).item()


# -------------------------------------------------------------------------------------------------------------- errors


@each_loss
@pytest.mark.parametrize(
    "logits, targets, message",
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 5), "shape"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(1, 4, 4), "shape"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.long), "a channel axis too many"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.long), "a channel axis too many"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), "must be integer class ids"),
        (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), "logits must be floats of shape"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.long), torch.zeros(2, 4, 4), "logits must be floats"),
    ],
)
def test_errors(name, logits, targets, message):
    with pytest.raises(ValueError, match=message):
        ALL_LOSSES[name](logits, targets)


def test_focal_alpha_is_for_one_channel():
    with pytest.raises(ValueError, match="one-channel"):
        ul.FocalLoss(alpha=0.25)(*case(3))


# --------------------------------------------------------------------------------------------------------- weight map


def slow_weight_map(labels, w0=10.0, sigma=5.0):
    """Equation 2 of the paper, pixel by pixel."""
    objects = [np.argwhere(labels == i) for i in np.unique(labels) if i != 0]
    inside = (labels != 0).mean()
    weights = np.zeros(labels.shape)
    for pixel in np.ndindex(labels.shape):
        share = inside if labels[pixel] else 1 - inside
        weights[pixel] = 0.5 / share if 0 < inside < 1 else 1.0
        distances = sorted(np.sqrt(((o - pixel) ** 2).sum(1)).min() for o in objects)
        if len(distances) > 1:
            weights[pixel] += w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


def cells(seed, n=4, size=20):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for i in range(1, n + 1):
        top, left = rng.integers(2, size - 2, 2)
        labels[(y - top) ** 2 + (x - left) ** 2 < rng.integers(4, 12)] = i
    return labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("w0, sigma", [(10.0, 5.0), (3.0, 2.0)])
def test_weight_map_is_the_formula(seed, w0, sigma):
    labels = cells(seed)
    np.testing.assert_allclose(ul.weight_map(labels, w0, sigma), slow_weight_map(labels, w0, sigma), rtol=1e-5)


def test_weight_map_of_a_binary_mask_takes_its_parts():
    labels = np.zeros((12, 16), np.int32)
    labels[2:8, 2:6], labels[4:9, 8:14] = 1, 2
    weights = ul.weight_map(labels)
    for binary in (labels > 0, (labels > 0).astype(np.uint8), torch.from_numpy(labels > 0)):
        torch.testing.assert_close(ul.weight_map(binary), weights)
    gap, far = weights[6, 6:8].min(), weights[0, 15]  # between the cells, and away from them
    assert gap > far + 5


def test_weight_map_balances_the_classes():
    weights = ul.weight_map(cells(0), w0=0.0).numpy()
    inside = cells(0) > 0
    assert weights.mean() == pytest.approx(1, rel=1e-6)
    assert weights[inside].sum() == pytest.approx(weights[~inside].sum(), rel=1e-5)


def test_weight_map_of_few_objects():
    single = np.zeros((8, 8), np.uint8)
    single[2:4, 2:4] = 1
    np.testing.assert_allclose(ul.weight_map(single), slow_weight_map(single), rtol=1e-6)
    assert (ul.weight_map(np.zeros((4, 4), int)) == 1).all()
    assert (ul.weight_map(np.ones((4, 4), int)) == 1).all()


def test_weight_map_of_a_batch_goes_into_the_loss():
    batch = torch.from_numpy(np.stack([cells(0), cells(1)]))
    weights = ul.weight_map(batch)
    assert weights.shape == batch.shape and weights.dtype == torch.float32
    torch.testing.assert_close(weights[1], ul.weight_map(batch[1]))
    logits = torch.randn(2, 1, 20, 20)
    plain, weighted = (ul.CompoundLoss()(logits, (batch > 0).long(), w) for w in (None, weights))
    assert weighted > plain


@pytest.mark.parametrize("labels", [np.zeros(4, int), np.zeros((1, 1, 4, 4), int), np.zeros((4, 4))])
def test_weight_map_errors(labels):
    with pytest.raises(ValueError, match="weight_map takes integer labels"):
        ul.weight_map(labels)
