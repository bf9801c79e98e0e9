"""A visit to the bug clinic: what a patient's probes cost, what the diagnosis is worth. Plain Python, no widgets.

>>> clinic = Clinic()
>>> clinic.patient(1).probe("mask_values")
>>> clinic.diagnose(1, "b")
>>> clinic.treat(1)
"""

from html import escape

from matplotlib.figure import Figure

from unetlab.exercises.clinic.card import card, card_html
from unetlab.exercises.clinic.case import CASES, Case
from unetlab.exercises.clinic.chart import draw, printed
from unetlab.exercises.clinic.probes import PROBES, Probe
from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

POINTS, CODE_PRICE, WRONG_PRICE = 10, 3, 3


class Finding:
    """A text with its line breaks, in a terminal and on a page."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self):
        return self.text

    def _repr_html_(self):
        return f'<pre style="white-space: pre-wrap; line-height: 1.4; margin: 0">{escape(self.text, quote=False)}</pre>'


class Visit:
    """One patient: the complaint, the probes bought so far, the points left of ten.

    Attributes:
        case: the patient. ``points``: what is left. ``findings``: answers by the name of the probe ("code" for the script).
        diagnosed: whether the cause was named. ``treated``: whether the cure was seen, which ends the visit.
        tried: the wrong causes named so far.
    """

    def __init__(self, case: Case):
        self.case = case
        self.points = POINTS
        self.findings: dict[str, str] = {}
        self.tried: list[str] = []
        self.diagnosed = self.treated = False

    @property
    def score(self) -> int:
        """The points left, at least one, if the cause was named before the cure was seen; else 0."""
        return max(self.points, 1) if self.diagnosed else 0

    def probes(self) -> dict[str, Probe]:
        """The probes that apply to this patient, by name."""
        run = self.case.run()
        return {name: probe for name, probe in PROBES.items() if probe.applies(run)}

    def probe(self, name: str) -> Finding:
        """Buy a probe; asking again costs nothing. Raises ValueError for a name that is not among ``probes()``."""
        offer = self.probes()
        if name not in offer:
            raise ValueError(f"no probe {name!r} for patient {self.case.number}; there are {', '.join(offer)}")
        return self._pay(name, offer[name].price, offer[name].look(self.case.run()))

    def code(self) -> Finding:
        """Read the script. It costs three points, once."""
        return self._pay("code", CODE_PRICE, self.case.code())

    def _pay(self, name: str, price: int, text: str) -> Finding:
        if name not in self.findings and not self.diagnosed and not self.treated:
            self.points -= price
        self.findings[name] = text
        return Finding(text)

    def diagnose(self, answer: str | None) -> Verdict:
        """Name the cause, by its letter or its text. A wrong one costs three points. None is not an attempt."""
        causes = self.case.causes
        if answer is None or answer is Ellipsis:
            return not_attempted('name the cause by its letter, such as "a"; buy a probe first if you are not sure.')
        said = str(answer).strip()
        letter = next((key for key, cause in causes.items() if said.lower() == key or said == cause.text), None)
        if letter is None:
            return wrong(f"{answer!r} is none of the causes on the card: answer with one letter, {', '.join(causes)}.")
        cause = causes[letter]
        if cause.is_right:
            self.diagnosed = self.diagnosed or not self.treated
            return right(f"{cause.why} ({self._sum()})")
        if letter not in self.tried and not self.diagnosed and not self.treated:
            self.tried.append(letter)
            self.points -= WRONG_PRICE
        return wrong(f"{cause.why} ({self._sum()})")

    def _sum(self) -> str:
        if self.treated and not self.diagnosed:
            return "no points: the cure was seen first"
        return f"{self.score if self.diagnosed else self.points} of {POINTS} points"

    def treat(self) -> "Treatment":
        """See the cure and the cured run. This ends the visit: without a diagnosis it is worth nothing."""
        self.treated = True
        return Treatment(self.case)

    def figure(self) -> Figure:
        """What the learner saw: curves, predictions, printed numbers, the error. With the cured run once treated."""
        return draw(self.case, self.case.run(), self.case.run(cured=True) if self.treated else None)

    def symptom(self) -> Finding:
        """The same as text."""
        return Finding("\n".join([self.case.sees, *printed(self.case.run())]))

    def __repr__(self):
        return card(self.case, self.probes().values(), CODE_PRICE)

    def _repr_html_(self):
        return card_html(self.case, self.probes().values(), CODE_PRICE)


class Treatment(Finding):
    """The line that cures, and whether the symptom is gone."""

    def __init__(self, case: Case):
        sick, cured = (case.is_sick(case.run(cured=cured)) for cured in (False, True))
        super().__init__(f"{case.difference()}\n\nsymptom before: {sick}, after: {cured}")


class Clinic:
    """All patients and one learner's points. Run ``Clinic()`` again to start afresh."""

    def __init__(self):
        self.visits = {number: Visit(case) for number, case in CASES.items()}

    def patient(self, number: int) -> Visit:
        """One patient's visit. Raises ValueError for a number that nobody has."""
        if number not in self.visits:
            raise ValueError(f"no patient has the number {number!r}; there are 1 to {len(self.visits)}")
        return self.visits[number]

    def diagnose(self, number: int, answer: str | None) -> Verdict:
        """``Visit.diagnose`` of a patient."""
        return self.patient(number).diagnose(answer)

    def treat(self, number: int) -> Treatment:
        """``Visit.treat`` of a patient."""
        return self.patient(number).treat()

    def score(self) -> str:
        """How many were diagnosed, and the points, in one line."""
        done = [visit for visit in self.visits.values() if visit.diagnosed]
        points = sum(visit.score for visit in done)
        return f"{len(done)} of {len(self.visits)} patients diagnosed, {points} of {POINTS * len(done)} points for them"

    def __repr__(self):
        return "\n".join([self.score()] + [f"{n:3} {v.case.ward:30} {v.case.title}" for n, v in self.visits.items()])
