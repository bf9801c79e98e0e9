"""A patient on paper: the card with the complaint and the causes, and the whole clinic to read where widgets are dead."""

from collections.abc import Iterable
from html import escape
from itertools import groupby

from unetlab.exercises.clinic.case import CASES, Case
from unetlab.exercises.clinic.probes import Probe

_CARD = "border: 1px solid #808080; border-radius: 4px; padding: 4px 14px; line-height: 1.5; max-width: 60em"
_PRE = "white-space: pre-wrap; line-height: 1.4; margin: 4px 0"


def card(case: Case, probes: Iterable[Probe], code_price: int) -> str:
    """What a learner gets to see at first, as text."""
    causes = [f"  {letter}  {cause.text}" for letter, cause in case.causes.items()]
    offer = ", ".join(f"{probe.name} {probe.price}" for probe in probes)
    head = f"Patient {case.number} ({case.ward.lower()}): {case.title}"
    return "\n".join([head, f'"{case.complaint}"', "Cause?", *causes, f"Probes and prices: {offer}; code {code_price}"])


def card_html(case: Case, probes: Iterable[Probe], code_price: int) -> str:
    """The same as HTML, each probe with its question."""
    offer = "".join(f"<li><code>{p.name}</code> ({p.price}): {escape(p.asks)}</li>" for p in probes)
    return (
        f'<div style="{_CARD}">{complaint_html(case)}{causes_html(case)}<details><summary>Probes and their prices</summary>'
        f"<ul>{offer}<li><code>code()</code> ({code_price}): the script</li></ul></details></div>"
    )


def complaint_html(case: Case) -> str:
    """Number, title and complaint."""
    return (
        f"<p><strong>Patient {case.number}: {escape(case.title)}</strong> ({escape(case.ward.lower())})</p>"
        f"<p>“{escape(case.complaint, quote=False)}”</p>"
    )


def causes_html(case: Case) -> str:
    """The four causes by their letter."""
    rows = "".join(
        f"<div><strong>{k}</strong>&ensp;{escape(c.text, quote=False)}</div>" for k, c in case.causes.items()
    )
    return f'<p style="margin-bottom: 0">Which cause?</p><div style="margin: 0 0 8px 12px">{rows}</div>'


def threads_html(case: Case) -> str:
    """Where others met the problem, as links."""
    links = []
    for thread in case.threads:
        repository, number = thread.split("#")
        address = f"https://github.com/{repository}/issues/{number}"
        links.append(f'<a href="{address}" target="_blank" style="text-decoration: underline">{escape(thread)}</a>')
    return f"<p>Others met it too: {', '.join(links)}.</p>" if links else ""


def cure_html(case: Case) -> str:
    """The line that cures."""
    return f'<pre style="{_PRE}">{escape(case.difference(), quote=False)}</pre>'


def static_html(cases: Iterable[Case] = tuple(CASES.values())) -> str:
    """All patients, ward by ward: complaint, symptom and causes, the answer and the cure folded behind them."""
    parts = []
    for ward, group in groupby(cases, key=lambda case: case.ward):
        parts.append(f'<p style="margin: 12px 0 4px"><strong>{escape(ward)}</strong></p>')
        for case in group:
            answers = "".join(
                f"<li><strong>{letter}</strong> {'✓' if cause.is_right else '✗ No:'} {escape(cause.why, quote=False)}</li>"
                for letter, cause in case.causes.items()
            )
            parts.append(
                f"<details><summary>{case.number} · {escape(case.title)}</summary>{complaint_html(case)}"
                f"<p>{escape(case.sees)}</p>{causes_html(case)}<details><summary>Answer and cure</summary>"
                f"<ul>{answers}</ul>{cure_html(case)}{threads_html(case)}</details></details>"
            )
    return "\n".join(parts)
