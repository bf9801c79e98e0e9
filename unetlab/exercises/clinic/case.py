"""A patient of the bug clinic: a complaint, a script with one wrong line, and four causes of which one is right.

The texts stand in a TOML file beside the scripts of each ward. A script is shown as it is run: the lines on the page are the
source of the function. Behind a wrong line stands its cure, ``# fix: ...``; the cured script is the same source with that
line put in its place, so a cure cannot be more than it says.
"""

import difflib
import inspect
import random
import re
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from unetlab.exercises.clinic import data, evaluation, loss, modes, rate, stopping
from unetlab.exercises.clinic.run import Run, run

WARDS = {
    "Data": data,
    "Loss": loss,
    "Learning rate": rate,
    "Training and evaluation mode": modes,
    "Evaluation": evaluation,
    "Early stopping": stopping,
}
_FIX = re.compile(r"^( *)(.*?) *# fix:(.*)$")


@dataclass(frozen=True)
class Cause:
    """A possible cause, whether it is the right one, and why (or why not)."""

    text: str
    is_right: bool
    why: str


@dataclass(frozen=True)
class Case:
    """One patient.

    Attributes:
        number, key, ward, title: which one it is.
        complaint: what the learner says. ``sees``: what their plot does, in words without trained numbers.
        shows: the lists of the script that are plotted. ``picture``: whether predictions are shown too.
        tell: the probe that gives the bug away. ``causes``: by letter. ``threads``: GitHub threads with this problem.
    """

    number: int
    key: str
    ward: str
    title: str
    complaint: str
    sees: str
    tell: str
    causes: dict[str, Cause]
    script: Callable
    shows: tuple[str, ...] = ()
    picture: bool = False
    threads: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The letter of the right cause."""
        return next(letter for letter, cause in self.causes.items() if cause.is_right)

    def code(self, cured: bool = False) -> str:
        """The script as it is run, without and with the cure."""
        return _code(self.script, cured)

    def difference(self) -> str:
        """What the cure changes: a line with - goes, a line with + comes; a line before and behind for orientation."""
        sick, cured = (self.code(cured).splitlines() for cured in (False, True))
        lines = list(difflib.unified_diff(sick, cured, n=1, lineterm=""))[2:]  # without the names of files
        return "\n".join("..." if line.startswith("@@") else f"{line[0]} {line[1:]}" for line in lines)

    def run(self, cured: bool = False, seed: int = 0) -> Run:
        """Run the script, or the cured one. The same seed gives the same run, which is kept."""
        return _run(self.script, cured, seed)

    def is_sick(self, result: Run) -> bool:
        """Whether a run shows the symptom."""
        return bool(self.script.symptom(result))


@cache
def _run(script: Callable, cured: bool, seed: int) -> Run:
    if cured:
        body = textwrap.indent(_code(script, cured=True) + "return locals()\n", "    ")
        names: dict = {}
        exec(f"def cured_script(seed):\n{body}", script.__globals__, names)
        script = names["cured_script"]
    return run(script, seed)


def _body(script: Callable) -> list[str]:
    """The lines of a script between its ``def`` and its ``return locals()``."""
    lines = inspect.getsource(script).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def ")) + 1
    return textwrap.dedent("\n".join(lines[start:-1])).splitlines()


def _code(script: Callable, cured: bool) -> str:
    lines = []
    for line in _body(script):
        found = _FIX.match(line)
        if found is None:
            lines.append(line)
        elif code := found[3].strip() if cured else found[2]:
            lines.append(found[1] + code)
    return "\n".join(lines) + "\n"


def _load() -> dict[int, Case]:
    cases: dict[int, Case] = {}
    for ward, module in WARDS.items():
        for row in _rows(module):
            causes = [Cause(text, i == 0, why) for i, (text, why) in enumerate(row.pop("causes"))]
            random.Random(row["key"]).shuffle(causes)  # in the file the right one is the first
            letters = dict(zip("abcd", causes, strict=True))
            lists = {name: tuple(row.pop(name, ())) for name in ("shows", "threads")}
            number = len(cases) + 1
            cases[number] = Case(number, ward=ward, causes=letters, script=getattr(module, row["key"]), **row, **lists)
    return cases


def _rows(module: ModuleType) -> list[dict]:
    text = Path(module.__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["patients"]


CASES = _load()
