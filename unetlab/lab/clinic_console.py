"""The bug clinic console of ``05b_bug_clinic``: choose a patient, look, buy probes, name the cause, see the cure.

The logic is ``unetlab.exercises.clinic.visit``; this binds it to widgets. A patient's script runs when first chosen, which
takes up to a second. Where widgets are dead (a saved notebook, print) all patients are still there to read.
"""

from html import escape

import ipywidgets as widgets

from unetlab.exercises.clinic import Clinic
from unetlab.exercises.clinic.card import causes_html, complaint_html, static_html, threads_html
from unetlab.exercises.clinic.chart import LABELS, curves, legend, picture, printed
from unetlab.exercises.clinic.visit import CODE_PRICE, POINTS, Visit
from unetlab.lab.instrument import Curves, Instrument

_LOOKS = (("as it was", "#0072B2", "solid"), ("cured", "#D55E00", "dashed"))
_TEXT = "white-space: pre-wrap; line-height: 1.4; margin: 2px 0; font-family: monospace; font-size: 13px"


class ClinicConsole:
    """Show it as the last line of a cell.

    Args:
        clinic: whose points are counted; a new one if None.
    """

    def __init__(self, clinic: Clinic | None = None):
        self.clinic = Clinic() if clinic is None else clinic
        self._choice = widgets.Dropdown(description="Patient", layout={"width": "34em"}, options=self._names(), value=1)
        self._previous, self._next = (widgets.Button(description=f"{which} patient") for which in ("Previous", "Next"))
        self._complaint, self._printed, self._causes, self._findings, self._verdict, self._score = (
            widgets.HTML() for _ in range(6)
        )
        self._plots = Instrument("What the learner saw", [], lambda name, value: None)
        self._offer = widgets.Box(layout={"flex_flow": "row wrap"})
        self._letters = {
            letter: widgets.Button(description=f"Cause {letter}", layout={"width": "7em"}) for letter in "abcd"
        }
        self._cure = widgets.Button(description="See the cure", tooltip="Ends the visit: name the cause first")

        self._choice.observe(lambda change: self._show_patient(), "value")
        self._previous.on_click(lambda _: self._move(-1))
        self._next.on_click(lambda _: self._move(+1))
        for letter, button in self._letters.items():
            button.on_click(lambda _, letter=letter: self._diagnose(letter))
        self._cure.on_click(lambda _: self._treat())
        self._widget = widgets.VBox(
            [
                widgets.HBox([self._choice, self._previous, self._next], layout={"flex_flow": "row wrap"}),
                self._complaint,
                self._plots,
                self._printed,
                self._offer,
                self._findings,
                self._causes,
                widgets.HBox([*self._letters.values(), self._cure], layout={"flex_flow": "row wrap"}),
                self._verdict,
                self._score,
            ],
            layout={"max_width": "62em", "padding": "8px 0"},
        )
        self._show_patient()

    @property
    def visit(self) -> Visit:
        """That of the patient on show."""
        return self.clinic.patient(self._choice.value)

    def _names(self) -> list[tuple[str, int]]:
        visits = self.clinic.visits.items()
        return [(f"{n} · {v.case.title}{' ✓' if v.diagnosed else ''}", n) for n, v in visits]

    def _move(self, steps: int) -> None:
        self._choice.value = min(max(self._choice.value + steps, 1), len(self.clinic.visits))

    def _buy(self, name: str) -> None:
        self.visit.code() if name == "code" else self.visit.probe(name)
        self._refresh()

    def _diagnose(self, letter: str) -> None:
        verdict = self.visit.diagnose(letter)
        number, names = self._choice.value, self._names()
        if names != list(self._choice.options):
            with self._choice.hold_trait_notifications():  # new options would show the first patient
                self._choice.options = names
                self._choice.value = number
        self._refresh()
        threads = threads_html(self.visit.case) if verdict.status == "right" else ""
        self._verdict.value = f'<div role="status">{verdict._repr_html_()}{threads}</div>'

    def _treat(self) -> None:
        treatment = self.visit.treat()
        self._refresh()
        self._draw()
        self._verdict.value = f'<pre role="status" style="{_TEXT}">{escape(treatment.text, quote=False)}</pre>'

    def _show_patient(self) -> None:
        visit, case = self.visit, self.visit.case
        self._complaint.value = f'<div style="line-height: 1.5">{complaint_html(case)}</div>'
        self._causes.value = f'<div style="line-height: 1.5">{causes_html(case)}</div>'
        self._verdict.value = ""
        offer = [(name, probe.price, probe.asks) for name, probe in visit.probes().items()]
        self._offer.children = [self._button(*one) for one in [*offer, ("code", CODE_PRICE, "Read the script")]]
        self._refresh()
        self._draw()

    def _button(self, name: str, price: int, asks: str) -> widgets.Button:
        points = f"{price} point" + "s" * (price > 1)
        button = widgets.Button(description=f"{name} · {points}", tooltip=asks, layout={"width": "auto"})
        button.on_click(lambda _: self._buy(name))
        return button

    def _refresh(self) -> None:
        visit = self.visit
        findings = [f"<strong>{name}</strong>\n{escape(text, quote=False)}" for name, text in visit.findings.items()]
        self._findings.value = f'<pre role="status" style="{_TEXT}">' + "\n\n".join(findings) + "</pre>"
        left = f"Patient {visit.case.number}: {visit.points} of {POINTS} points left."
        self._score.value = f"<p>{left} {escape(self.clinic.score())}.</p>"

    def _draw(self) -> None:
        visit, case = self.visit, self.visit.case
        runs = [case.run()] + ([case.run(cured=True)] if visit.treated else [])
        buffer, panels = Curves(), []
        for name in case.shows:
            title, counted = LABELS[name]
            series = []
            for run, (what, color, dash) in zip(runs, _LOOKS, strict=False):
                values = curves(case, run).get(name, [])
                series.append(
                    buffer.line(range(1, len(values) + 1), values, name=what, color=color, dash=dash, width=2)
                )
            title = title[0].upper() + title[1:]
            label = f"{title}. {case.sees}"
            panels.append({"title": title, "label": label, "xlabel": counted, "series": series})
        strip = picture(case, runs[-1])
        with self._plots.hold_sync():
            self._plots.show_curves(panels, buffer)
            if strip is None:
                self._plots.strip_size, self._plots.strip, self._plots.caption = [0, 0], b"", []
            else:
                self._plots.show_strip(strip)
                self._plots.caption = [list(part) for part in legend(runs[-1])]
        named = zip((f"{what}: " if visit.treated else "" for what, *_ in _LOOKS), runs, strict=False)
        lines = [name + line for name, run in named for line in printed(run)]
        self._printed.value = f'<pre style="{_TEXT}">{escape(chr(10).join([case.sees, *lines]), quote=False)}</pre>'

    def _repr_mimebundle_(self, **options) -> dict:
        text = f"Bug clinic console: {self.clinic.score()}"
        return self._widget._repr_mimebundle_(**options) | {"text/plain": text, "text/html": static_html()}
