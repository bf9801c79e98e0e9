"""The bug clinic console: what the buttons do to the visit, and what is left where widgets are dead."""

import re

import ipywidgets as widgets
import pytest

from unetlab.exercises.clinic import CASES, Clinic
from unetlab.lab.clinic_console import ClinicConsole

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def console():
    return ClinicConsole()


def everything_on(console):
    """All widgets of a console, by what they are called."""
    found, waiting = {}, [console._widget]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        if isinstance(widget, widgets.Button | widgets.Dropdown):
            found[widget.description] = widget
    return found


def page(console):
    """All texts of a console."""
    found, waiting = [], [console._widget]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        if isinstance(widget, widgets.HTML):
            found.append(widget.value)
    return "\n".join(found)


def test_it_begins_with_the_first_patient(console):
    assert console.visit.case == CASES[1]
    assert CASES[1].complaint[:40] in page(console) and CASES[1].sees in page(console)
    assert "Training loss" in [panel["title"] for panel in console._plots.panels]
    assert "below zero" in console._plots.panels[0]["label"]
    assert console._plots.strip_size[0] > 0


def test_a_probe_is_bought_once(console):
    assert "255 (" not in page(console)
    everything_on(console)["mask_values · 1 point"].click()
    everything_on(console)["mask_values · 1 point"].click()
    assert "255 (" in page(console)
    assert "9 of 10 points left" in page(console)


def test_the_code_has_its_price(console):
    everything_on(console)["code · 3 points"].click()
    assert "files = 255 * drawn" in page(console) and "7 of 10 points left" in page(console)


def test_a_wrong_cause_costs_and_the_right_one_marks_the_patient(console):
    right = CASES[1].answer
    wrong = next(letter for letter in "abcd" if letter != right)
    everything_on(console)[f"Cause {wrong}"].click()
    assert "Wrong, because" in page(console) and "7 of 10 points left" in page(console)
    everything_on(console)[f"Cause {right}"].click()
    assert "Right." in page(console) and "Pytorch-UNet#173" in page(console)
    assert everything_on(console)["Patient"].options[0][0].endswith("✓")
    assert console.visit.case == CASES[1]


def test_the_cure_draws_both_runs(console):
    everything_on(console)["See the cure"].click()
    assert "+ masks = (files &gt; 127).float()" in page(console)
    assert [line["name"] for line in console._plots.panels[0]["series"]] == ["as it was", "cured"]


def test_patients_in_turn(console):
    names = everything_on(console)
    names["Previous patient"].click()
    assert console.visit.case.number == 1
    names["Next patient"].click()
    assert console.visit.case.number == 2
    names["Patient"].value = 34
    names["Next patient"].click()
    assert console.visit.case.number == 34


def test_every_patient_can_be_shown(console):
    choice = everything_on(console)["Patient"]
    for number in CASES:
        choice.value = number
        assert CASES[number].sees in page(console)
        assert len(console._plots.panels) == len(CASES[number].shows)


def test_it_counts_for_the_clinic_it_was_given():
    clinic = Clinic()
    console = ClinicConsole(clinic)
    everything_on(console)[f"Cause {CASES[1].answer}"].click()
    assert clinic.patient(1).diagnosed and not ClinicConsole().clinic.patient(1).diagnosed


def test_a_saved_page_holds_all_patients():
    bundle = ClinicConsole()._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/plain", "text/html"}
    assert bundle["text/plain"] == "Bug clinic console: 0 of 34 patients diagnosed, 0 of 0 points for them"
    assert len(re.findall("Answer and cure", bundle["text/html"])) == 34
