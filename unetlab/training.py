"""The training loop, and a run that can be held in the hand: steered, stopped, rewound, forked, resumed.

Taught from ``01_unet_anatomy`` on; the live part in ``03d_live_learning_rate`` and ``04c_live_patience``. Read ``fit``,
``_train_epoch``, ``train_step`` and ``_finish_epoch`` in this order: that is the whole loop. It asks four things by
name: the controls (what does the hand want?), the schedule (which rate?), early stopping (go on?), the history (write
it down). The rest of the file is what makes a run whole: its state, so that *train 10* equals *train 5, kill, resume*.

The images live on the device as uint8. Nothing depends on a random state: the order of an epoch and the augmentation
and dropout of a step are drawn from (seed, epoch) and (seed, step), so any step can be made again.
"""

import copy
import math
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unetlab import checkpoint, parallel
from unetlab.augment import Augment, make_augment
from unetlab.controls import Controls, Script, check_change
from unetlab.early_stopping import EarlyStopping
from unetlab.ema import EMA
from unetlab.history import History, Move, environment
from unetlab.ingredients import (
    as_tensors,
    check_class_ids,
    choose_device,
    choose_precision,
    crop_to,
    discords,
    make_loss,
    make_optimizer,
)
from unetlab.memory import kept_memory
from unetlab.metrics import SegmentationMetrics, class_ids
from unetlab.model import UNet
from unetlab.progress import Progress
from unetlab.run_state import Snapshots, clone, fingerprint, load, load_optimizer, pack_settings, unpack_settings
from unetlab.schedulers import Scheduler, make_scheduler

_ONE_STEP_AT_A_TIME = threading.Lock()  # several labs may train in one process


class Trainer:
    """Trains a segmentation network, one visible loop, with the whole run in reach.

    Args:
        model: a network from images (N, C, H, W) to logits (N, classes, h, w); one channel means binary. It is trained
            in place. If h, w are smaller (unpadded convolutions) the masks are cropped to their centre.
        train, val: each a ``Split``, or a pair ``(images, masks)`` of tensors or arrays: images (N, C, H, W) uint8, or
            float already scaled; masks (N, H, W) integer class ids. uint8 images are divided by 255.
        loss: "compound" (cross-entropy + Dice), "ce", "dice", "tversky", "focal", a dict ``{"name": ..., option: ...}``,
            or any callable (logits, masks) -> scalar.
        optimizer: "adamw", "adam", "sgd" (momentum 0.9, Nesterov), "rmsprop", a dict with "name" and options, or a
            callable parameters, lr -> optimizer.
        lr: the base learning rate, above 0.
        scheduler: a name of ``make_scheduler``, or a dict with "name" and options; for "plateau" the option "monitor"
            names the column to watch (default: that of early stopping, else val_loss).
        early_stopping: an ``EarlyStopping``, or None to train all epochs and keep the last weights.
        batch_size: images a gradient is computed on at once.
        augment: an ``Augment``, its name ("flips", "standard", "elastic"), a function with the arguments of its call
            (images, masks, generator), or None.
        device: "auto" (cuda, then mps, then cpu) or a torch device.
        precision: "fp32", "bf16" (autocast) or "auto" (bf16 where a GPU computes it natively, else fp32).
        grad_clip: largest gradient norm, None for no clipping.
        accumulate: batches whose gradients are added up to one optimizer step.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated and kept; or None.
        compile: run the network through ``torch.compile`` (minutes of start-up; worth it for long GPU runs).
        seed: of the data order, the augmentation and the dropout. Seed the model's weights yourself, before making it.
        ignore_index: class id of pixels that count nowhere; taken from ``train`` when it has one.

    Attributes:
        model, optimizer, early_stopping, controls, history: as named.
        watched, watched_predictions: indices of validation images, and their predicted class ids after each epoch.
        notes: what did not go together when the last ``fit`` began.
        step: optimizer steps taken. ``epoch``: whole epochs trained. ``diverged``: whether a loss stopped being finite.

    Raises:
        ValueError: data that do not fit together or hold class ids outside the network's; an unknown name.
    """

    def __init__(
        self,
        model: nn.Module,
        train,
        val,
        loss="compound",
        optimizer="adamw",
        lr: float = 1e-3,
        scheduler="constant",
        early_stopping: EarlyStopping | None = None,
        batch_size: int = 16,
        augment: Augment | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        grad_clip: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        compile: bool = False,
        seed: int = 0,
        ignore_index: int | None = None,
    ):
        for name, value in (("batch_size", batch_size), ("accumulate", accumulate)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        check_change("lr", lr, ("lr",))
        if ignore_index is None:
            ignore_index = getattr(train, "ignore_index", None)
        self.settings = {  # what fork and resume need to make this trainer again
            "loss": loss,
            "optimizer": optimizer,
            "lr": lr,
            "scheduler": scheduler,
            "early_stopping": early_stopping,
            "batch_size": batch_size,
            "augment": augment,
            "device": device,
            "precision": precision,
            "grad_clip": grad_clip,
            "accumulate": accumulate,
            "ema": ema,
            "compile": compile,
            "seed": seed,
            "ignore_index": ignore_index,
        }
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.batch_size, self.accumulate, self.grad_clip = batch_size, accumulate, grad_clip
        self.lr, self.seed, self.ignore_index = lr, seed, ignore_index

        self.model = parallel.share_batch_norm(model, self.device)
        self.model = self.model.to(self.device, memory_format=torch.channels_last)
        parallel.same_start(self.model)
        self._forward = torch.compile(self.model) if compile else self.model
        self._train, self._val = train, val  # as given, for forks
        self.images, self.masks = as_tensors(train, "train", self.device)
        self.val_images, self.val_masks = as_tensors(val, "val", self.device)
        if self.images.shape[1] != self.val_images.shape[1]:
            raise ValueError(f"train has {self.images.shape[1]} channels and val {self.val_images.shape[1]}")
        self.num_classes = self._count_classes()
        self.class_names = tuple(getattr(train, "class_names", None) or ())
        self.include_background = self.class_names[:1] != ("background",)
        # An image shows few of many classes, and one wrong pixel of an absent one scores it 0 there. Taken image by image,
        # a network that never dares the rare classes would win; so several classes are scored on all images together.
        self.reduction = "per_image" if self.num_classes == 1 else "pooled"
        for split, masks in (("train", self.masks), ("val", self.val_masks)):
            check_class_ids(masks, self.num_classes, ignore_index, split)

        self.loss = make_loss(loss, ignore_index).to(self.device)
        self.optimizer = make_optimizer(optimizer, self.model.parameters(), lr, self.device)
        self.augment = make_augment(augment) if isinstance(augment, str) else augment
        self.ema = EMA(self.model, ema) if ema is not None else None
        self.early_stopping = early_stopping
        if early_stopping:
            early_stopping.reset()
        # Without early stopping the best weights are tracked all the same, by Dice, and nothing ever stops.
        self._keeper = early_stopping or EarlyStopping("val_dice", "max", math.inf, restore_best_weights=False)
        adjustable = ("lr", "weight_decay", "grad_clip") + (("patience", "min_delta") if early_stopping else ())
        self.controls = Controls(adjustable)

        self.step = 0
        self.steps_per_epoch = math.ceil(len(self.images) / (batch_size * accumulate))
        self.planned_epochs: int | None = None
        self.scheduler: Scheduler | None = None  # made by the first fit, which knows how long the run is
        self._scheduled_lr = [group["lr"] for group in self.optimizer.param_groups]
        self._hand_lr: float | None = None  # set while the hand holds the rate
        self._best: dict[str, Tensor] | None = None
        self._training_weights: dict[str, Tensor] | None = None  # set while the model shows the kept weights instead
        self._moves_in_force = 0  # moves whose effect is in the state; later ones were rolled back
        self.diverged = False
        self.notes: list[str] = []  # what does not go together in the last plan
        self.watched: list[int] = []  # validation images whose predictions are kept after every epoch
        self.watched_predictions: dict[int, Tensor] = {}  # by epoch, uint8 (watched, H, W) on the CPU
        self.snapshots = Snapshots()
        self.history = History(
            environment(
                self.device,
                precision=self.precision,
                seed=seed,
                parameters=sum(p.numel() for p in self.model.parameters()),
                reduction=self.reduction,
            )
        )

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(
        self,
        epochs: int | None = None,
        script: Script | None = None,
        run_dir: str | Path | None = None,
        verbose: bool | None = True,
    ) -> History:
        """Train until ``epochs`` epochs are done **in all**; call it again to finish a run that was stopped.

        Args:
            epochs: the length of the run, at least 1. The first call plans the schedule for this length; asking for more
                later leaves a horizon-bound schedule at its end (and says so). None: what was planned.
            script: moves to make on the way.
            run_dir: a folder that gets ``history.json``, the newest checkpoints and ``best.safetensors`` after every
                epoch, so that a killed process loses at most an epoch.
            verbose: True prints what runs, and a line an epoch. False only warns. None is silent, for a caller that shows
                ``notes`` and ``history.stop_reason`` itself.

        Returns:
            the ``History``, also ``trainer.history``. Its ``stop_reason`` says why a run ended early: early stopping,
            the hand, an interrupt (Ctrl-C), or a loss that is no longer finite. In every case the state is whole, and the
            weights that count are in ``trainer.model``, in evaluation mode: the best ones if early stopping restores them
            or the run diverged, else the moving average if there is one, else the last. A run that early stopping ended
            goes on only with a larger patience.

        Raises:
            ValueError: no length known, or an unknown column to monitor.
        """
        self.notes = self._plan(epochs)
        for note in self.notes if verbose is not None else ():
            warnings.warn(note, stacklevel=2)
        self._take_up_training()
        if parallel.rank():  # of several processes the first one prints and writes
            run_dir = verbose = None
        epochs = self.planned_epochs if epochs is None else epochs
        if not self.snapshots:
            self.snapshots.add(self.epoch, self.state())
        progress = Progress(self._describe(epochs), self.step, epochs * self.steps_per_epoch, verbose)
        try:
            with kept_memory():
                while self.epoch < epochs and self.history.stop_reason is None:
                    started = time.perf_counter()
                    if self._train_epoch(script, progress):
                        improved = self._finish_epoch(started)
                        progress.epoch(self.history.epochs[-1], improved)
                        if run_dir is not None:
                            self._write(Path(run_dir), improved)
        except KeyboardInterrupt:
            self._roll_back()
            self.history.stop_reason = f"interrupted in epoch {self.epoch + 1}; the state is that of epoch {self.epoch}"
        except BaseException:
            self._roll_back()
            raise
        finally:
            progress.close()
            self._present_kept_weights()
        if self.diverged and verbose is not None:
            warnings.warn(self.history.stop_reason, RuntimeWarning, stacklevel=2)
        if self.history.stop_reason:
            progress.say(f"stopped: {self.history.stop_reason}")
        if run_dir is not None:
            checkpoint.write_atomically(Path(run_dir) / "history.json", self.history.to_json().encode())
        return self.history

    def _train_epoch(self, script: Script | None, progress: Progress) -> bool:
        """Train what is left of this epoch; False if the hand or a loss that is not finite ended the run."""
        epoch = self.epoch
        order = torch.randperm(len(self.images), generator=self._generator("order", epoch, "cpu")).to(self.device)
        batches = order.split(self.batch_size * self.accumulate)
        waiting: list[tuple[Tensor, float]] = []
        for indices in batches[self.step - epoch * self.steps_per_epoch :]:
            if not self._obey(script, epoch):
                self._record(waiting, epoch)
                return False
            waiting.append((self.train_step(indices), self.optimizer.param_groups[0]["lr"]))
            # Reading a loss makes a GPU wait, so there losses are read a few steps late; on a CPU it costs nothing.
            if (self.device.type == "cpu" or len(waiting) == 20) and not self._record(waiting, epoch):
                return False
            if self.scheduler.interval == "batch":
                self._move_schedule()
            progress.step(self.step)
        return self._record(waiting, epoch)

    def train_step(self, indices: Tensor) -> Tensor:
        """One optimizer step on these training images (indices on the device); returns the mean loss, on the device."""
        if not self.model.training:
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        # Dropout draws from the random numbers of the process: leave them to the caller as they were, and let no other
        # run draw in between.
        with _ONE_STEP_AT_A_TIME, torch.random.fork_rng(devices):
            generator = self._generator("step", self.step, self.device)
            # torch.manual_seed would also note, for GPUs that nobody uses, where it was called from: a millisecond.
            seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
            seed(generator.initial_seed() + parallel.rank())  # for dropout
            for part in indices.split(self.batch_size):
                mine = parallel.share(len(part))  # all of it, unless several processes train together
                images, masks = self._to_input(self.images[part[mine]]), self.masks[part[mine]]
                if self.augment is not None:
                    place = (len(part), mine.start) if parallel.size() > 1 else ()
                    images, masks = self.augment(images, masks, generator, *place)
                with self._autocast():
                    logits = self._forward(images)
                # Each part weighs as much as it has images, so that the sum is the gradient of one large batch. (Of a
                # last batch that is smaller than the number of processes some get nothing: 0, and not 0 / 0.)
                loss = self.loss(logits, crop_to(masks, logits)) if len(masks) else logits.sum()
                loss = loss * (len(masks) / len(indices))
                loss.backward()
                total += loss.detach()
        total = parallel.add_gradients(self.model, total)
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model)
        self.step += 1
        return total

    def _finish_epoch(self, started: float) -> bool:
        """Evaluate, write the row down, ask early stopping and plateau; returns whether the run improved."""
        losses = [row["loss"] for row in self.history.steps[-self.steps_per_epoch :]]
        scores, ids = self._score(self.val_images, self.val_masks, self.batch_size)
        row = {
            "epoch": self.epoch,
            "train_loss": sum(losses) / len(losses),
            "val_loss": scores["loss"],
            "val_dice": scores["dice"],
            "val_iou": scores["iou"],
            "lr": self.history.steps[-1]["lr"],
            "seconds": time.perf_counter() - started,
        }
        decision = self._keeper.update(row[self._keeper.monitor])
        self.history.epochs.append(row | {"wait": decision.wait})  # whole, for a lab may be reading
        if self.watched:
            ids = parallel.put_together(ids, len(self.val_images))
            self.watched_predictions[self.epoch] = ids[self.watched].cpu()
        if decision.improved:
            self._best = clone(self._evaluated.state_dict())
        if not math.isfinite(row["val_loss"]):
            self._diverged(f"the validation loss became {row['val_loss']} after epoch {self.epoch}")
            return False
        if decision.stop:
            self.history.stop_reason = f"early stopping at epoch {self.epoch}: {decision.reason}"
        if self.scheduler.interval == "evaluation":
            self._move_schedule(row[self._plateau_monitor])
        self.snapshots.add(self.epoch, self.state())
        return decision.improved

    # ------------------------------------------------------------------------------------- the hand and the rate

    def _obey(self, script: Script | None, epoch: int) -> bool:
        """Make the moves that the script and the hand ask for before this step; False if they end the run."""
        wishes = parallel.from_first(self.controls.collect())
        for name, value in (script.at(self.step) if script else []) + wishes:
            if name == "stop":
                self.history.stop_reason = f"stopped by hand at step {self.step}"
                self.history.moves.append(Move(self.step, epoch + 1, name, False, True))
                return False
            if not (name == "lr" and value is None):
                check_change(name, value, self.controls.adjustable)
            self.history.moves.append(Move(self.step, epoch + 1, name, self._change(name, value), value))
            self._moves_in_force = len(self.history.moves)
        return True

    def _change(self, name: str, value) -> float | int | None:
        """Put a new value in force; returns the old one."""
        groups = self.optimizer.param_groups
        if name == "lr":
            old, self._hand_lr = groups[0]["lr"], value
            self._apply_lr()
        elif name == "weight_decay":
            old = groups[0]["weight_decay"]
            for group in groups:
                group["weight_decay"] = value
        elif name == "grad_clip":
            old, self.grad_clip = self.grad_clip, value
        else:
            old = getattr(self.early_stopping, name)
            setattr(self.early_stopping, name, value)
        return old

    def _apply_lr(self) -> None:
        """The hand's rate while it holds one, else the schedule's."""
        for group, scheduled in zip(self.optimizer.param_groups, self._scheduled_lr, strict=True):
            group["lr"] = scheduled if self._hand_lr is None else self._hand_lr

    def _move_schedule(self, metric: float | None = None) -> None:
        """Move the schedule on. It goes its own way under the hand's rate, so that it can be given back at any time."""
        for group, scheduled in zip(self.optimizer.param_groups, self._scheduled_lr, strict=True):
            group["lr"] = scheduled
        self.scheduler.step(metric)
        self._scheduled_lr = self.scheduler.get_last_lr()
        self._apply_lr()

    def _plan(self, epochs: int | None) -> list[str]:
        """Make the schedule for a run of this length (once); returns what does not go together, to be said."""
        if epochs is None and self.planned_epochs is None:
            raise ValueError("how long shall the run be? Call fit(epochs=...)")
        if epochs is not None and epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {epochs}")
        if self.scheduler is None:
            self.planned_epochs = epochs
            self._make_schedule(epochs)
            return discords(self.scheduler, self.early_stopping, epochs)
        if epochs is not None and epochs > self.planned_epochs and self.scheduler.horizon_bound:
            return [
                f"the {self.scheduler.name} schedule was planned for {self.planned_epochs} epochs and stays at its end "
                f"until epoch {epochs}; fork with a new scheduler for a new plan"
            ]
        return []

    def _make_schedule(self, epochs: int) -> None:
        given = self.settings["scheduler"]
        options = dict(given) if isinstance(given, dict) else {"name": given}
        self._plateau_monitor = options.pop(
            "monitor", self.early_stopping.monitor if self.early_stopping else "val_loss"
        )
        if options["name"] == "plateau":
            options.setdefault("mode", "max" if self._plateau_monitor in ("val_dice", "val_iou") else "min")
        columns = ("train_loss", "val_loss", "val_dice", "val_iou")
        for monitor in (self._plateau_monitor, self._keeper.monitor):
            if monitor not in columns:
                raise ValueError(f"cannot monitor {monitor!r}: choose one of {', '.join(columns)}")
        options.setdefault("total_steps", epochs * self.steps_per_epoch)
        self.scheduler = make_scheduler(optimizer=self.optimizer, **options)
        self._scheduled_lr = self.scheduler.get_last_lr()

    # -------------------------------------------------------------------------------------- using the network

    def restore_best(self) -> None:
        """Put the weights of the best epoch so far into ``model``; the next ``fit`` goes on from those of the last step.

        Raises:
            ValueError: no epoch has been good so far.
        """
        if self._best is None:
            raise ValueError("there are no best weights: no epoch has been trained, or none had a score")
        self._show(self._best)

    def evaluate(self, data, batch_size: int | None = None) -> dict:
        """Score the network on a set (a ``Split`` or a pair), the same whatever the batch size.

        Where several processes train together, each scores its share: all of them must call this.

        Returns:
            ``loss`` (mean over images), ``dice`` and ``iou``, ``dice_per_class``, ``iou_per_class``, ``dice_per_image``
            (lists). In a binary task ``dice`` is the mean over images, and one without foreground that is predicted empty
            scores 1. With several classes the pixels of all images are counted together for each class, and ``dice`` is
            the mean over the classes (without "background" if the data name one) that are in the masks or predicted.
        """
        scores, _ = self._score(*as_tensors(data, "the data", self.device), batch_size or self.batch_size)
        return scores

    def metrics(self) -> SegmentationMetrics:
        """Metrics without an image yet, which count as ``evaluate`` does."""
        return SegmentationMetrics(
            self.num_classes,
            self.reduction,
            zero_division=1.0 if self.num_classes == 1 else math.nan,
            include_background=self.include_background,
            ignore_index=self.ignore_index,
        )

    @torch.inference_mode()
    def _score(self, images: Tensor, masks: Tensor, batch_size: int) -> tuple[dict, Tensor]:
        """What ``evaluate`` returns, and the predicted class ids of this process's share of the images."""
        metrics = self.metrics()
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        predicted = []
        mine = parallel.share(len(images))
        for part in torch.arange(len(images), device=self.device)[mine].split(batch_size):
            logits = self.predict_logits(images[part])
            truth = crop_to(masks[part], logits)
            if len(part):
                total += self.loss(logits, truth).double() * len(part)
            predicted.append(class_ids(logits).to(torch.uint8))
            metrics.update(predicted[-1], truth)
        total = parallel.add_up(total)
        scores = metrics.compute(parallel.put_together(metrics.counts, len(images)))
        return parallel.from_first({"loss": total.item() / len(images), **scores}), torch.cat(predicted)

    @torch.inference_mode()
    def predict(self, images, batch_size: int | None = None) -> Tensor:
        """Class ids for images (N, C, H, W), uint8 or scaled floats -> uint8 (N, H, W) on the CPU."""
        images = torch.as_tensor(images)
        parts = images.split(batch_size or self.batch_size)
        return torch.cat(
            [class_ids(self.predict_logits(part.to(self.device))).to("cpu", torch.uint8) for part in parts]
        )

    def predict_logits(self, images: Tensor) -> Tensor:
        """Logits in evaluation mode for images on the device; the network's mode is put back afterwards."""
        network = self._evaluated
        training = network.training
        network.eval()
        with self._autocast():
            logits = (self._forward if network is self.model else network)(self._to_input(images))
        network.train(training)
        return logits

    @torch.no_grad()
    def _count_classes(self) -> int:
        """Output channels of the network, found by asking it; its mode is put back."""
        training = self.model.training
        logits = self.model.eval()(self._to_input(self.images[:1]))
        self.model.train(training)
        return logits.shape[1]

    @property
    def _evaluated(self) -> nn.Module:
        """What is evaluated: the moving average while a run with one is being trained, else the model itself."""
        averaging = self.ema is not None and self._training_weights is None and self.step > 0
        return self.ema.module if averaging else self.model

    @property
    def epoch(self) -> int:
        """Whole epochs trained."""
        return self.step // self.steps_per_epoch

    def _to_input(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        return images.contiguous(memory_format=torch.channels_last)

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _generator(self, purpose: str, index: int, device) -> torch.Generator:
        """A generator that depends on nothing but the seed, the purpose and the index."""
        entropy = np.random.SeedSequence([self.seed, {"order": 0, "step": 1}[purpose], index])
        return torch.Generator(device).manual_seed(int(entropy.generate_state(1)[0]))

    # ---------------------------------------------------------------------------------- when something goes wrong

    def _record(self, waiting: list[tuple[Tensor, float]], epoch: int) -> bool:
        """Write the waiting step losses down; False if one is not finite."""
        if not waiting:
            return True
        losses = torch.stack([loss for loss, _ in waiting]).tolist()
        first = self.step - len(waiting)
        for i, (loss, (_, lr)) in enumerate(zip(losses, waiting, strict=True)):
            self.history.steps.append({"step": first + i, "epoch": epoch + 1, "loss": loss, "lr": lr})
        waiting.clear()
        bad = next((row for row in self.history.steps[-len(losses) :] if not math.isfinite(row["loss"])), None)
        if bad is not None:
            norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]).item()
            self._diverged(
                f"the loss became {bad['loss']} at step {bad['step']} (epoch {epoch + 1}, learning rate {bad['lr']:g}, "
                f"gradient norm {norm:g})"
            )
        return bad is None

    def _diverged(self, what: str) -> None:
        """End the run: go back to the last whole epoch and keep the best weights."""
        self.diverged = True
        self.history.stop_reason = (
            f"{what}. Likely causes: the learning rate is too high (divide it by 10, or warm up, or set grad_clip=1); "
            "a sum overflows in half precision (try precision='fp32'); the images hold NaN or were scaled twice"
        )
        self._roll_back()

    def _roll_back(self) -> None:
        """Take up the newest snapshot. The rows written since stay in the history until training goes on."""
        self.load_state(self.snapshots[max(self.snapshots)])

    def _present_kept_weights(self) -> None:
        """Put the weights that count into the model; the training weights wait for the next fit."""
        if self._best is not None and (self._keeper.restore_best_weights or self.diverged):
            self.restore_best()
        elif self.ema is not None:
            self._show(self.ema.module.state_dict())
        else:
            self.model.eval()

    def _show(self, weights: dict[str, Tensor]) -> None:
        if self._training_weights is None:
            self._training_weights = clone(self.model.state_dict())
        self.model.load_state_dict(weights)
        self.model.eval()

    @property
    def _still_stopped(self) -> bool:
        """Whether early stopping ended this run and nobody has raised (or asked to raise) its patience since."""
        stopping = self.early_stopping
        if stopping is None or stopping.stopped_epoch is None or stopping.stopped_epoch != stopping.epoch:
            return False
        return stopping.wait >= self.controls.pending.get("patience", stopping.patience)

    def _take_up_training(self) -> None:
        """The other way round, before training goes on; rows of steps that were rolled back are dropped."""
        if self._training_weights is not None:
            self.model.load_state_dict(self._training_weights)
            self._training_weights = None
        self.diverged = False
        if not self._still_stopped:
            self.history.stop_reason = None
        del (
            self.history.epochs[self.epoch :],
            self.history.steps[self.step :],
            self.history.moves[self._moves_in_force :],
        )

    # -------------------------------------------------------------------------- state: rewind, fork, save, resume

    def state(self) -> dict:
        """Everything that training depends on, as clones."""
        return {
            "step": self.step,
            "moves": self._moves_in_force,
            "planned_epochs": self.planned_epochs,
            "model": clone(self._training_weights or self.model.state_dict()),
            "optimizer": clone(self.optimizer.state_dict()),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "scheduled_lr": list(self._scheduled_lr),
            "hand_lr": self._hand_lr,
            "grad_clip": self.grad_clip,
            "keeper": self._keeper.state_dict(),
            "ema": self.ema and {"updates": self.ema.updates, "weights": clone(self.ema.module.state_dict())},
            "best": self._best,  # never written to, so not cloned
        }

    def load_state(self, state: dict) -> None:
        """Go on from a state, which may come from a file and from another device."""
        if self.scheduler is None and state["planned_epochs"] is not None:
            self._plan(state["planned_epochs"])  # before the optimizer's state: a schedule starts from the base rate
        self.step, self._moves_in_force = state["step"], state["moves"]
        self._training_weights = None
        checkpoint.put_weights(self.model, state["model"], "the state")
        load_optimizer(self.optimizer, state["optimizer"])
        if state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self._scheduled_lr, self._hand_lr = list(state["scheduled_lr"]), state["hand_lr"]
        self._apply_lr()
        self.grad_clip = state["grad_clip"]
        self._keeper.load_state_dict(state["keeper"])
        if self.ema is not None:
            self.ema.updates = state["ema"]["updates"]
            self.ema.module.load_state_dict(state["ema"]["weights"])
        self._best = state["best"]

    def rewind(self, epoch: int) -> None:
        """Go back to the end of an epoch (0: the start); what came after is forgotten. Not while the run is training.

        Raises:
            ValueError: there is no snapshot of that epoch; the message names those there are.
        """
        state = self.snapshots.at(epoch)
        self.load_state(state)
        self.history = self.history.truncated(epoch, state["step"], state["moves"])
        self.snapshots.drop_after(epoch)
        self.watched_predictions = {e: p for e, p in self.watched_predictions.items() if e <= epoch}

    def fork(self, at_epoch: int, **changes) -> "Trainer":
        """A second run that shares the past of this one up to an epoch and differs from there on.

        Args:
            at_epoch: 0 (the start) to the last epoch trained.
            changes: arguments of ``Trainer`` that shall differ, and ``patience``, ``min_delta``. A new ``lr`` or
                ``scheduler`` takes up the new schedule at this point of the run and takes the rate out of the hand.

        Returns:
            a ``Trainer`` with a model of its own; the data are shared. ``fit`` trains it to the planned length. Without
            changes it gives the same numbers as this run, on a CPU bit for bit.

        Raises:
            ValueError: no snapshot of that epoch; an argument that ``Trainer`` does not have or a fork cannot change.
        """
        state = dict(self.snapshots.at(at_epoch))
        moved = {name: changes.pop(name) for name in ("patience", "min_delta") if name in changes}
        possible = self.settings.keys() - {"batch_size", "accumulate", "optimizer", "ema"}
        if changes.keys() - possible:
            wrong = ", ".join(sorted(changes.keys() - possible))
            raise ValueError(f"a fork cannot change {wrong}: choose from {', '.join(sorted(possible))}")
        settings = {**self.settings, "early_stopping": copy.deepcopy(self.early_stopping), **changes}
        fork = Trainer(copy.deepcopy(self.model), self._train, self._val, **settings)
        facts = fork.history.environment
        fork.history = self.history.truncated(at_epoch, state["step"], state["moves"])
        fork.history.environment = facts
        if "early_stopping" in changes:
            state["keeper"] = fork._keeper.state_dict()
        if "grad_clip" in changes:
            state["grad_clip"] = changes["grad_clip"]
        if changes.keys() & {"lr", "scheduler"} and state["planned_epochs"] is not None:
            fork._plan(state["planned_epochs"])
            fork._fast_forward(state["step"])
            state |= {"scheduler": None, "hand_lr": None, "scheduled_lr": fork._scheduled_lr}
            # The new schedule's own entries (one-cycle keeps its highest rate there), with the weight decay of now.
            new, old = (o["param_groups"] for o in (fork.optimizer.state_dict(), state["optimizer"]))
            groups = [n | {"weight_decay": o["weight_decay"]} for n, o in zip(new, old, strict=True)]
            state["optimizer"] = {**state["optimizer"], "param_groups": groups}
        fork.load_state(state)
        for name, value in moved.items():
            check_change(name, value, fork.controls.adjustable)
            setattr(fork.early_stopping, name, value)
        if not changes:  # with another plan the older states would not fit
            fork.snapshots.update({epoch: old for epoch, old in self.snapshots.items() if epoch < at_epoch})
        fork.snapshots.add(at_epoch, fork.state())
        fork.watched = self.watched
        fork.watched_predictions = {e: p for e, p in self.watched_predictions.items() if e <= at_epoch}
        return fork

    def _fast_forward(self, steps: int) -> None:
        """Bring a new schedule to a step of the run."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch warns of schedule steps without optimizer steps: here they are meant
            for _ in range(steps if self.scheduler.interval == "batch" else 0):
                self.scheduler.step()
        self._scheduled_lr = self.scheduler.get_last_lr()

    def save(self, path: str | Path) -> None:
        """Write the whole state to one file, from which ``Trainer.resume`` goes on."""
        checkpoint.save_state(path, self._whole())

    def _whole(self) -> dict:
        return {
            "settings": pack_settings(self.settings),
            "model_config": self.model.config
            if type(self.model) is UNet
            else None,  # a subclass is a network of your own
            "data": self._fingerprints(),
            "history": self.history.to_dict(),
            "shows_kept": self._training_weights is not None,
            "training": self.state(),
        }

    def _fingerprints(self) -> list:
        return [fingerprint(self.images, self.masks), fingerprint(self.val_images, self.val_masks)]

    @classmethod
    def resume(cls, path: str | Path, train, val, model: nn.Module | None = None, **settings) -> "Trainer":
        """Make a trainer from a checkpoint; its ``fit()`` goes on as if the run had never ended.

        Args:
            path: a file of ``save``, or the ``run_dir`` of ``fit`` (its newest whole checkpoint is used).
            train, val: the data of the run.
            model: needed only if the run's network is not a ``UNet``.
            settings: arguments of ``Trainer`` that a file cannot hold (your own loss or optimizer function), and
                ``device``.

        Raises:
            CheckpointError: the file is missing, truncated, not a checkpoint, or of another network.
            ValueError: other data than the run's; a setting that must be given again.
        """
        state = load(path)
        if model is None and state["model_config"] is None:
            raise ValueError(f"{path} cannot hold your own model: pass model=... to resume")
        model = UNet(**state["model_config"]) if model is None else model
        checkpoint.put_weights(model, state["training"]["model"], path)
        trainer = cls(model, train, val, **unpack_settings(state["settings"], settings, path))
        if trainer._fingerprints() != state["data"]:
            raise ValueError(
                f"{path} was trained on other data ([shape, sums] {state['data']}, here {trainer._fingerprints()}): "
                "pass the same train and val"
            )
        trainer.load_state(state["training"])
        trainer.history = History.from_dict(state["history"])
        trainer.snapshots.add(trainer.epoch, trainer.state())
        if state["shows_kept"]:
            trainer._present_kept_weights()
        return trainer

    def _write(self, run_dir: Path, improved: bool) -> None:
        """After an epoch: the best weights if they are new, the state, the history.

        The best weights come first: a run that is killed in between makes its last epoch again, and them with it.
        """
        if improved:
            config = getattr(self.model, "config", None)
            checkpoint.save_weights(run_dir / "best.safetensors", self._best, model=config, epoch=self.epoch)
        checkpoint.save_numbered(run_dir, self._whole(), self.epoch)
        checkpoint.write_atomically(run_dir / "history.json", self.history.to_json().encode())

    def _describe(self, epochs: int) -> str:
        """The first line of a run: what is trained, on what, how long."""
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        size = "x".join(map(str, self.images.shape[1:]))
        schedule = self.scheduler.name
        return (
            f"{self.history.environment['parameters']:,} parameters on {self.device.type} ({self.precision}{threads}), "
            f"{len(self.images)} training and {len(self.val_images)} validation images of {size}, "
            f"batch {self.batch_size * self.accumulate}: {self.steps_per_epoch} steps an epoch, "
            f"{epochs * self.steps_per_epoch} in all; rate {self.lr:g}, {schedule}"
        )
