"""One run on several processes: each takes its share of every batch, and all make the same step.

Taught in ``docs/many.md``. ``torchrun`` starts the processes and tells each its rank; torch.distributed carries the
messages (gloo between CPUs, nccl between GPUs). In one process every function here does nothing, so the loop calls them
without asking. What makes *N processes* equal *one process* up to rounding:

* the order of the images and their augmentation are drawn for the whole batch, and each process takes its slice;
* a loss that is a mean over images is weighted by the size of the slice, and gradients are **added**, so an uneven last
  batch counts each image once;
* BatchNorm takes its statistics over the whole batch (``share_batch_norm``);
* scores are counted image by image and put together before anything is divided; what was decided in process 0 (the
  hand's moves, the scores that early stopping sees) is sent to all.

Dropout alone differs: each process draws its own.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


class ProcessLost(RuntimeError):
    """Another process of the run is gone, so this one cannot go on."""


def started_by_torchrun() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def processes_of_torchrun(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end. Without torchrun: nothing.

    Args:
        device: "cpu", or "auto" and "cuda", with which each process takes the GPU of its number on this machine.

    Raises:
        ProcessLost: another process died or was killed.
    """
    if not started_by_torchrun():
        yield
        return
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")  # gloo carries the moves, so that no GPU has to wait for them
    else:
        dist.init_process_group("gloo")
    terminated = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except RuntimeError as error:
        if not _is_about_a_connection(error):
            raise
        raise ProcessLost(f"{_LOST} ({' '.join(str(error).split())[:200]})") from error
    finally:
        signal.signal(signal.SIGTERM, terminated)
        leave()


_LOST = "another process of this run has ended; its own message says why, if it was not killed"


def _terminated(*_) -> None:
    """torchrun ends those that are left when one process is gone."""
    raise ProcessLost(_LOST)


def leave() -> None:
    """From here on this process is alone."""
    if _together():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; process 0 prints and writes."""
    return dist.get_rank() if _together() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _together() else 1


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()  # some builds of torch come without it


def share(n: int) -> slice:
    """Which of n things are this process's: neighbours, as evenly as can be, each thing in one process only."""
    return slice(n * rank() // size(), n * (rank() + 1) // size())


def from_first(value):
    """A small plain value as process 0 has it."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@torch.no_grad()
def same_start(model: nn.Module) -> None:
    """Give every process the weights and buffers of process 0."""
    for tensor in model.state_dict().values() if size() > 1 else ():
        whole = tensor.contiguous()
        dist.broadcast(whole, src=0)
        tensor.copy_(whole)


@torch.no_grad()
def add_gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Add up the gradients of all processes, in place, and the loss, which is returned: one message for all of them."""
    if size() == 1:
        return loss
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    message = torch.cat([loss.reshape(1).float(), *(g.flatten().float() for g in gradients)])
    dist.all_reduce(message)
    for gradient, total in zip(gradients, message[1:].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view(gradient.shape))
    return message[0]


def add_up(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same in each."""
    if size() > 1:
        dist.all_reduce(value)
    return value


def put_together(part: Tensor, n: int) -> Tensor:
    """The rows of all processes, n in all, from this process's ``share(n)``. (rows, ...) -> (n, ...)."""
    if size() == 1:
        return part
    whole = part.new_zeros(n, *part.shape[1:])
    whole[share(n)] = part
    return add_up(whole)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; what flows back is summed too, as every process used the sum."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose statistics come from the batches of all processes, with plain operations that gloo can carry.

    The same weights and buffers, under the same names, as ``nn.BatchNorm2d``; on a single process it is that.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or size() == 1:
            return super().forward(x)
        y, pixels = x.float(), (0, 2, 3)
        count = torch.tensor([y[:, 0].numel()], dtype=torch.float64, device=y.device)
        sums = _Sum.apply(torch.cat([y.sum(pixels, dtype=torch.float64), count]))
        mean, count = (sums[:-1] / sums[-1]).float(), sums[-1]
        centred = y - mean[:, None, None]
        variance = (_Sum.apply(centred.square().sum(pixels, dtype=torch.float64)) / count).float()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)).float(), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let the BatchNorm layers take their statistics over all processes: torch's own layer on GPUs, else ours."""
    if size() == 1:
        return model
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer) is nn.BatchNorm2d:
                shared = SharedBatchNorm(layer.num_features, layer.eps, layer.momentum)
                shared.load_state_dict(layer.state_dict())
                setattr(module, name, shared)
    return model


def _is_about_a_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(w in text for w in ("connection", "gloo", "nccl", "peer"))
