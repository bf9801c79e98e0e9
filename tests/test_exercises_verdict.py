"""The answers of a checker and of a mission: how they read as text and on a page."""

import dataclasses

import pytest

from unetlab.exercises.verdict import not_attempted, not_yet, right, won, wrong


@pytest.mark.parametrize(
    ("verdict", "status", "text"),
    [
        (right("It is 576."), "right", "✓ Right. It is 576."),
        (wrong("it is 576, not 9."), "wrong", "✗ Wrong, because it is 576, not 9."),
        (not_attempted("Fill in N."), "not attempted", "… Not attempted. Fill in N."),
        (won("Score 60."), "won", "★ Won. Score 60."),
        (not_yet("it is over budget."), "not yet", "↻ Not yet, because it is over budget."),
    ],
)
def test_a_word_and_a_sign_say_which(verdict, status, text):
    assert verdict.status == status
    assert repr(verdict) == text
    sign, message = text.split(verdict.message)[0].strip(), verdict.message
    assert f"<strong>{sign}</strong> {message}</div>" in verdict._repr_html_()


def test_several_reasons_make_a_list():
    verdict = wrong("of what follows:", "no year.", "no name.")
    assert repr(verdict) == "✗ Wrong, because of what follows:\n• no year.\n• no name."
    assert "of what follows:<br>• no year.<br>• no name." in verdict._repr_html_()


def test_a_message_is_text_and_never_markup():
    assert "a &lt; b &amp; c" in right("a < b & c")._repr_html_()


def test_a_verdict_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        right("yes").status = "wrong"
