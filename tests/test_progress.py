"""What a run says while it trains."""

import io
import math
import sys

import pytest

from unetlab.progress import Progress

ROW = {
    "epoch": 3,
    "train_loss": 0.5,
    "val_loss": 0.25,
    "val_dice": 0.875,
    "val_iou": 0.75,
    "lr": 4e-3,
    "seconds": 1.25,
    "wait": 0,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_an_epoch_under_its_heading(capsys):
    progress = Progress("what is trained", 0, 10, verbose=True)
    progress.epoch(ROW, improved=True)
    progress.epoch(ROW | {"epoch": 4, "val_loss": math.nan, "val_dice": 0.0}, improved=False)
    progress.say("stopped: early")
    progress.close()
    out, err = capsys.readouterr()
    title, heading, first, second, last = out.splitlines()
    assert (title, last) == ("what is trained", "stopped: early")
    assert first.split() == ["3", "0.5000", "0.2500", "0.8750", "0.7500", "4.0e-03", "1.2", "*"]
    assert second.split() == ["4", "0.5000", "nan", "0.0000", "0.7500", "4.0e-03", "1.2"]
    # Each number ends where its heading ends.
    for name, number in (("val dice", "0.8750"), ("lr", "4.0e-03"), ("seconds", "1.2"), ("epoch", "3")):
        assert heading.index(name) + len(name) == first.index(number) + len(number)
    assert err == ""  # no bar where the output is not a terminal


@pytest.mark.parametrize("verbose", [False, None])
def test_silence_on_request(capsys, monkeypatch, verbose):
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = Progress("title", 0, 10, verbose)
    progress.say("text")
    progress.step(5)
    progress.epoch(ROW, improved=True)
    progress.close()
    assert capsys.readouterr().out == sys.stderr.getvalue() == ""


def test_a_bar_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress("title", 4, 10, verbose=True)
    assert "4/10" in terminal.getvalue()  # a resumed run begins where it stopped
    progress.step(7)
    progress.epoch(ROW, improved=False)  # a line pushes the bar down
    assert "7/10" in terminal.getvalue() and "step" in terminal.getvalue()
    progress.step(10)
    progress.close()
    assert terminal.getvalue().rstrip(" ").endswith("\r")  # nothing of the bar is left
