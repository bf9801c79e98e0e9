"""Answers to the graded labs that are wrong in a known way, with the test that must notice and what it must say.

(lab, the cell of the answer, the code in its place, the cell of the test, a part of its reason)
"""

WRONG = [
    # ------------------------------------------------------------------------------------------------ lab 2
    (
        "lab2",
        "split",
        """
def split_patients(patients, share, seed):
    order = random.Random(seed).sample(range(len(patients)), len(patients))
    count = max(1, round(share * len(patients)))
    return sorted(order[count:]), sorted(order[:count])
""",
        "split-shown",
        "draw patients, not pictures",
    ),
    (
        "lab2",
        "split",
        """
def split_patients(patients, share, seed):
    judges = sorted(set(patients))[: max(1, round(share * len(set(patients))))]
    train = [i for i, name in enumerate(patients) if name not in judges]
    return train, [i for i, name in enumerate(patients) if name in judges]
""",
        "split-rest",
        "nothing is drawn",
    ),
    (
        "lab2",
        "split",
        """
def split_patients(patients, share, seed):
    random.seed(seed)
    names = sorted(set(patients))
    judges = random.sample(names, max(1, round(share * len(names))))
    train = [i for i, name in enumerate(patients) if name not in judges]
    return train, [i for i, name in enumerate(patients) if name in judges]
""",
        "split-rest",
        "the global generator was moved",
    ),
    (
        "lab2",
        "split",
        """
def split_patients(patients, share, seed):
    names = sorted(set(patients))
    judges = random.Random(seed).sample(names, round(share * len(names)))
    train = [i for i, name in enumerate(patients) if name not in judges]
    return train, [i for i, name in enumerate(patients) if name in judges]
""",
        "split-rest",
        "nobody judges",
    ),
    (
        "lab2",
        "flip",
        """
def flip_some(images, masks, generator):
    coin = torch.rand(len(images), generator=generator) < 0.5
    images[coin], masks[coin] = images[coin].flip(-1), masks[coin].flip(-1)
    return images, masks
""",
        "flip-rest",
        "the data set itself is turned",
    ),
    (
        "lab2",
        "flip",
        """
def flip_some(images, masks, generator):
    if torch.rand(1, generator=generator) < 0.9:
        return images.flip(-1), masks.flip(-1)
    return images.clone(), masks.clone()
""",
        "flip-rest",
        "a toss of its own",
    ),
    (
        "lab2",
        "flip",
        """
def flip_some(images, masks, generator):
    images, masks = images.clone(), masks.clone()
    coin = torch.rand(len(images), generator=generator) < 0.5
    images[coin], masks[coin] = images[coin].flip(-2), masks[coin].flip(-2)
    return images, masks
""",
        "flip-rest",
        "stands on its head",
    ),
    (
        "lab2",
        "flip",
        """
def flip_some(images, masks, generator):
    images, masks = images.clone(), masks.clone()
    coin = torch.rand(len(images)) < 0.5
    images[coin], masks[coin] = images[coin].flip(-1), masks[coin].flip(-1)
    return images, masks
""",
        "flip-rest",
        "not made with the generator",
    ),
    (
        "lab2",
        "flip",
        """
def flip_some(images, masks, generator):
    coin = torch.rand(len(images), generator=generator) < 0.5
    images = images.clone()
    images[coin] = images[coin].flip(-1)
    return images, masks.clone()
""",
        "flip-shown",
        "its mask was not",
    ),
    (
        "lab2",
        "pull",
        """
def pull(loss, logits, masks):
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, masks), leaf)[0].sum().abs().item()
""",
        "pull-rest",
        "add absolute values",
    ),
    (
        "lab2",
        "pull",
        """
def pull(loss, logits, masks):
    logits.requires_grad_()
    return torch.autograd.grad(loss(logits, masks), logits)[0].abs().sum().item()
""",
        "pull-rest",
        "require a gradient now",
    ),
    (
        "lab2",
        "pull",
        """
def pull(loss, logits, masks):
    if not logits.requires_grad:
        logits = logits.clone().requires_grad_()
    loss(logits, masks).backward()
    return logits.grad.abs().sum().item()
""",
        "pull-rest",
        "carry a .grad now",
    ),
    (
        "lab2",
        "dice",
        """
def batch_dice_loss(p, g, smooth):
    return (1 - (2 * (p * g).sum((1, 2)) + smooth) / (p.sum((1, 2)) + g.sum((1, 2)) + smooth)).mean()
""",
        "dice-rest",
        "the mean of one Dice for each picture",
    ),
    (
        "lab2",
        "dice",
        """
def batch_dice_loss(p, g, smooth):
    return (1 - (2 * (p * g).sum() + smooth) / (p.sum() + g.sum() + smooth)).item()
""",
        "dice-rest",
        "it has no gradient",
    ),
    (
        "lab2",
        "dice",
        """
def batch_dice_loss(p, g, smooth):
    return 1 - 2 * (p * g).sum() / (p.sum() + g.sum() + smooth)
""",
        "dice-rest",
        "smooth is missing in the numerator",
    ),
    (
        "lab2",
        "steps",
        """
def epochs_for_as_many_steps(images, epochs, batch_size, new_batch_size):
    return epochs * new_batch_size // batch_size
""",
        "steps-rest",
        "too many",
    ),
    (
        "lab2",
        "steps",
        """
def epochs_for_as_many_steps(images, epochs, batch_size, new_batch_size):
    return epochs * -(-images // batch_size) / -(-images // new_batch_size)
""",
        "steps-rest",
        "no part of an epoch",
    ),
    (
        "lab2",
        "verdict",
        """
def verdict(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return "a" if min(a) > mean_b else "b" if min(b) > mean_a else "cannot tell"
""",
        "verdict-rest",
        "compare pairs",
    ),
    (
        "lab2",
        "verdict",
        """
def verdict(a, b):
    if all(x > y for x, y in zip(a, b)):
        return "a"
    return "b" if all(x < y for x, y in zip(a, b)) else "cannot tell"
""",
        "verdict-rest",
        "two seeds are too few",
    ),
    (
        "lab2",
        "verdict",
        """
def verdict(a, b):
    if len(a) < 3:
        return "cannot tell"
    if all(x > y for x, y in zip(a, b)):
        return "a"
    return "b" if all(x < y for x, y in zip(a, b)) else "cannot tell"
""",
        "verdict-rest",
        "no ValueError is raised",
    ),
    # ------------------------------------------------------------------------------------------------ lab 3
    (
        "lab3",
        "trouble",
        """
def first_trouble(losses, factor):
    for i, loss in enumerate(losses):
        if loss > factor * losses[0] or math.isnan(loss) or math.isinf(loss):
            return i
""",
        "trouble-shown",
        "2.4 is more than 4 times 0.5",
    ),
    (
        "lab3",
        "trouble",
        """
def first_trouble(losses, factor):
    for i, loss in enumerate(losses):
        if i and loss > factor * min(losses[:i]):
            return i
""",
        "trouble-rest",
        "a NaN is missed",
    ),
    (
        "lab3",
        "trouble",
        """
def first_trouble(losses, factor):
    lowest = min((loss for loss in losses if math.isfinite(loss)), default=0)
    for i, loss in enumerate(losses):
        if not math.isfinite(loss) or loss > factor * lowest:
            return i
""",
        "trouble-rest",
        "only earlier losses count",
    ),
    (
        "lab3",
        "trapezoid",
        """
def trapezoid(step, total, warmup, cooldown):
    return max(0.0, min(1.0, (step + 1) / warmup, (total - step) / cooldown))
""",
        "trapezoid-rest",
        "you divide by a side of length 0",
    ),
    (
        "lab3",
        "trapezoid",
        """
def trapezoid(step, total, warmup, cooldown):
    up = (step + 1) / warmup if warmup else 1.0
    return min(1.0, up, (total - step) / cooldown if cooldown else 1.0)
""",
        "trapezoid-rest",
        "falls below 0",
    ),
    (
        "lab3",
        "trapezoid",
        """
def trapezoid(step, total, warmup, cooldown):
    if step < warmup:
        return step / warmup
    return 1.0 if step < total - cooldown else max(0.0, (total - step) / (cooldown or 1))
""",
        "trapezoid-shown",
        "wanted",
    ),
    (
        "lab3",
        "rates",
        """
def set_rates(optimizer, base_rates, factor):
    for group in optimizer.param_groups:
        group["lr"] *= factor
""",
        "rates-rest",
        "start from the base rate",
    ),
    (
        "lab3",
        "rates",
        """
def set_rates(optimizer, base_rates, factor):
    optimizer.param_groups[0]["lr"] = base_rates[0] * factor
""",
        "rates-rest",
        "only the first one was set",
    ),
    (
        "lab3",
        "step",
        """
def train_step(model, optimizer, scheduler, loss, images, masks):
    model.train()
    optimizer.zero_grad()
    value = loss(model(images), masks)
    value.backward()
    scheduler.step()
    optimizer.step()
    return value.item()
""",
        "step-rest",
        "the scheduler moved before the optimizer",
    ),
    (
        "lab3",
        "step",
        """
def train_step(model, optimizer, scheduler, loss, images, masks):
    model.train()
    value = loss(model(images), masks)
    value.backward()
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return value.item()
""",
        "step-rest",
        "zero it first, not last",
    ),
    (
        "lab3",
        "step",
        """
def train_step(model, optimizer, scheduler, loss, images, masks):
    optimizer.zero_grad()
    value = loss(model(images), masks)
    value.backward()
    optimizer.step()
    scheduler.step()
    return value.item()
""",
        "step-rest",
        "still in eval mode",
    ),
    (
        "lab3",
        "step",
        """
def train_step(model, optimizer, scheduler, loss, images, masks):
    model.train()
    optimizer.zero_grad()
    loss(model(images), masks).backward()
    optimizer.step()
    scheduler.step()
    return loss(model(images), masks).item()
""",
        "step-rest",
        "not the one after it",
    ),
    (
        "lab3",
        "cuts",
        "def useful_cuts(plateau, stopping):\n    return stopping // (plateau + 1)\n",
        "cuts-rest",
        "the evaluation that ends the run is useless",
    ),
    (
        "lab3",
        "cuts",
        "def useful_cuts(plateau, stopping):\n    return int(stopping > plateau + 1)\n",
        "cuts-shown",
        "cuts at failures 3 and 6",
    ),
    (
        "lab3",
        "race",
        """
def contenders(table, margin):
    best = max(max(dice) for dice in table.values())
    return sorted(rate for rate, dice in table.items() if max(dice) >= best - margin)
""",
        "race-rest",
        "do not make up for a lost one",
    ),
    (
        "lab3",
        "race",
        """
def contenders(table, margin):
    means = {rate: sum(dice) / len(dice) for rate, dice in table.items()}
    best = max(means.values())
    return sorted(rate for rate, mean in means.items() if mean >= best - margin)
""",
        "race-rest",
        "must not be the best mean either",
    ),
    # ------------------------------------------------------------------------------------------------ lab 4
    (
        "lab4",
        "waits",
        """
def waits(values, min_delta, mode):
    counts = []
    for i, value in enumerate(values):
        before = values[i - 1] if i else math.inf
        gain = before - value if mode == "min" else (value - before if i else 1)
        counts.append(0 if gain > min_delta else counts[-1] + 1)
    return counts
""",
        "waits-shown",
        "give 0, 0, 1, 2, 0",
    ),
    (
        "lab4",
        "waits",
        """
def waits(values, min_delta, mode):
    counts, best = [], math.inf
    for value in values:
        counts.append(0 if best - value > min_delta else counts[-1] + 1)
        best = min(best, value)
    return counts
""",
        "waits-rest",
        "is `mode` used?",
    ),
    (
        "lab4",
        "waits",
        """
def waits(values, min_delta, mode):
    counts, best = [], math.inf
    for value in values if mode == "min" else [-value for value in values]:
        counts.append(0 if best - value > min_delta else counts[-1] + 1)
        best = min(best, value)
    return counts
""",
        "waits-rest",
        "a gain that is too small moves nothing",
    ),
    (
        "lab4",
        "keep",
        "def keep(model):\n    return model.state_dict()\n\n\ndef put_back(model, kept):\n    model.load_state_dict(kept)\n",
        "keep-shown",
        "state_dict() alone is no copy",
    ),
    (
        "lab4",
        "keep",
        """
def keep(model):
    return [p.detach().clone() for p in model.parameters()]


def put_back(model, kept):
    for p, value in zip(model.parameters(), kept):
        p.data.copy_(value)
""",
        "keep-rest",
        "keep the buffers as well",
    ),
    (
        "lab4",
        "keep",
        """
def keep(model):
    return copy.deepcopy(model.state_dict())


def put_back(model, kept):
    model.load_state_dict(kept, assign=True)
""",
        "keep-rest",
        "the model was handed your copy itself",
    ),
    (
        "lab4",
        "loop",
        """
def train_until(model, train_epoch, evaluate, patience, budget):
    losses, best, wait = [], keep(model), 0
    for _ in range(budget):
        train_epoch()
        losses.append(evaluate())
        if math.isnan(losses[-1]):
            return "diverged", losses
        if losses[-1] < min(losses[:-1], default=math.inf):
            best, wait = keep(model), 0
        else:
            wait += 1
        if wait >= patience:
            put_back(model, best)
            return "stopped", losses
    return "budget", losses
""",
        "loop-rest",
        "restore whatever ended the run",
    ),
    (
        "lab4",
        "loop",
        """
def train_until(model, train_epoch, evaluate, patience, budget):
    losses, best, wait = [], keep(model), 0
    for _ in range(budget):
        train_epoch()
        losses.append(evaluate())
        if losses[-1] <= min(losses):
            best, wait = keep(model), 0
        else:
            wait += 1
        if wait >= patience:
            break
    put_back(model, best)
    return ("stopped" if wait >= patience else "budget"), losses
""",
        "loop-rest",
        "where it had to end",
    ),
    (
        "lab4",
        "prices",
        """
def prices(curve, patiences):
    pairs = []
    for patience in patiences:
        replay = ul.replay_early_stopping(curve, patience)
        last = replay.stopped_epoch if replay.stopped_epoch is not None else len(curve) - 1
        pairs.append((last + 1, curve[last] - min(curve)))
    return pairs
""",
        "prices-shown",
        "regret 0.1",
    ),
    (
        "lab4",
        "prices",
        """
def prices(curve, patiences):
    replays = [ul.replay_early_stopping(curve, patience) for patience in sorted(patiences)]
    return [(len(curve) - replay.epochs_saved, replay.regret) for replay in replays]
""",
        "prices-rest",
        "the order of the patiences",
    ),
    (
        "lab4",
        "pictures",
        "def pictures_needed(scores, error):\n    return math.ceil((statistics.pstdev(scores) / error) ** 2)\n",
        "pictures-shown",
        "16 pictures are enough",
    ),
    (
        "lab4",
        "pictures",
        "def pictures_needed(scores, error):\n    return math.floor((statistics.stdev(scores) / error) ** 2 + 1e-9)\n",
        "pictures-rest",
        "rounded down",
    ),
]
