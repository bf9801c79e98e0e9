"""The instrument: what Python declares and what the page is sent. The page itself is tested in tests/browser."""

import re

import numpy as np
import pytest

from unetlab.lab.instrument import Curves, Instrument

SLIDER = {"id": "lr", "kind": "range", "label": "Learning rate", "min": 1e-6, "max": 1, "step": 0.02, "log": True}


@pytest.fixture
def instrument():
    touched = []
    one = Instrument("Test bench", [SLIDER], lambda name, value: touched.append((name, value)))
    one.touched = touched
    yield one
    one.close()


@pytest.fixture
def sent(instrument, monkeypatch):
    """The messages that go to the page: for each the traits in it."""
    messages = []
    monkeypatch.setattr(Instrument, "send_state", lambda self, key: messages.append(set(key)) if key else None)
    return messages


def test_curves_share_one_buffer():
    curves = Curves()
    line = curves.line([1, 2, 3], [0.5, None, np.inf], name="loss", color="#0072B2", dash="dotted")
    assert line == {"x": [0, 3], "y": [3, 3], "name": "loss", "color": "#0072B2", "dash": "dotted"}
    assert curves.add(range(2)) == [6, 2] and curves.add([]) == [8, 0]
    numbers = np.frombuffer(curves.bytes(), np.float32)
    np.testing.assert_array_equal(numbers, np.array([1, 2, 3, 0.5, np.nan, np.inf, 0, 1], np.float32))


def test_no_curve_is_no_byte():
    assert Curves().bytes() == b""


def test_a_touch_reaches_python(instrument):
    instrument._handle_custom_msg({"id": "lr", "value": 0.01}, [])
    assert instrument.touched == [("lr", 0.01)]


def test_charts_and_their_numbers_travel_together(instrument, sent):
    curves = Curves()
    panels = [{"title": "Loss", "series": [curves.line([1, 2], [3, 4])]}]
    instrument.show_curves(panels, curves)
    assert sent == [{"panels", "data"}]
    assert instrument.panels == panels and instrument.data == curves.bytes()
    instrument.show_curves(panels, curves)
    assert len(sent) == 1  # nothing is new, nothing is sent


def test_a_picture_travels_with_its_size(instrument, sent):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    instrument.show_strip(picture[:, ::-1])  # not contiguous
    assert sent == [{"strip", "strip_size"}]
    assert instrument.strip_size == [4, 2] and instrument.strip == picture[:, ::-1].tobytes()


def test_the_text_where_widgets_are_dead(instrument):
    assert repr(instrument) == "Test bench: run this cell to use it"


def test_page_and_python_know_the_same_traits():
    page = Instrument._esm.read_text() if hasattr(Instrument._esm, "read_text") else str(Instrument._esm)
    read = set(re.findall(r'model\.get\("(\w+)"\)', page))
    declared = {name for name in Instrument.class_traits(sync=True) if name in Instrument.class_own_traits()}
    assert read == declared - {"_esm", "_css"}


def test_a_closed_instrument_takes_no_harm(instrument):
    instrument.close()
    instrument.status = {"text": "late", "progress": None, "problem": None}
    assert instrument.comm is None
