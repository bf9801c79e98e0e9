"""Run a learner's script with instruments attached: what every optimizer step and every pass through a network did.

Used by the bug clinic of ``05b_bug_clinic``. The instruments are torch's own global hooks, so the scripts stay as a
learner writes them: nothing in them is there for the clinic.
"""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


@dataclass(frozen=True)
class Pass:
    """One call of a module: which one, in which mode, with gradients or not, and the shape of its input."""

    module: int  # its id
    kind: str
    training: bool
    with_gradient: bool
    shape: tuple[int, ...]


@dataclass
class Run:
    """What is left of a script: ``memory`` (its variables at the end, or where it broke) and what the instruments saw.

    Attributes:
        error: the message it broke with, None if it ran to the end.
        rates, gradients, moves: learning rate, gradient norm and length of the step in weight space, of each optimizer step.
        passes: every call of a module. ``warnings``: what torch printed, each text once.
    """

    memory: dict = field(default_factory=dict)
    error: str | None = None
    rates: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str):
        return self.memory[name]

    def network_passes(self) -> list[Pass]:
        """The calls of the script's ``net`` itself, not of its layers."""
        return [one for one in self.passes if one.module == id(self.memory.get("net"))]


def run(script: Callable, seed: int = 0) -> Run:
    """Call ``script(seed)``, which returns its variables. An exception ends it, as it ends a learner's cell, and is kept.

    The random numbers of the caller are left as they were.
    """
    result = Run()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as caught, _instruments(result):
        warnings.simplefilter("always")
        torch.manual_seed(seed)
        try:
            result.memory = script(seed)
        except Exception as error:  # whatever it is, it is the symptom
            result.memory = dict(error.__traceback__.tb_next.tb_frame.f_locals)
            result.error = f"{type(error).__name__}: {error}"
    result.warnings = list(dict.fromkeys(str(one.message) for one in caught))
    return result


@contextmanager
def _instruments(result: Run):
    before: list[torch.Tensor] = []

    def weights(optimizer):
        return [p for group in optimizer.param_groups for p in group["params"]]

    def before_step(optimizer, args, kwargs):
        gradients = [p.grad for p in weights(optimizer) if p.grad is not None]
        before[:] = [p.detach().clone() for p in weights(optimizer)]
        result.rates.append(optimizer.param_groups[0]["lr"])
        result.gradients.append(torch.nn.utils.get_total_norm(gradients).item() if gradients else 0.0)

    def after_step(optimizer, args, kwargs):
        moved = [p.detach() - old for p, old in zip(weights(optimizer), before, strict=True)]
        result.moves.append(torch.nn.utils.get_total_norm(moved).item())

    def before_pass(module, inputs):
        shape = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], torch.Tensor) else ()
        one = Pass(id(module), type(module).__name__, module.training, torch.is_grad_enabled(), shape)
        result.passes.append(one)

    hooks = [
        register_optimizer_step_pre_hook(before_step),
        register_optimizer_step_post_hook(after_step),
        register_module_forward_pre_hook(before_pass),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
