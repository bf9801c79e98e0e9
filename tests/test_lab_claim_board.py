"""The claim board: its logic without widgets, then the buttons, then what is left where widgets are dead."""

import re
from html import escape

import pytest

from unetlab.exercises.claims import CLAIMS, VERDICTS, check_judgements
from unetlab.lab.claim_board import Board, ClaimBoard, evidence_html, score_html

ORIGIN = next(claim for claim in CLAIMS if claim.key == "origin")
VIEW = "application/vnd.jupyter.widget-view+json"


# --------------------------------------------------------------------------------------------------------- the logic


def test_the_first_judgement_of_a_claim_counts():
    board = Board()
    board.judge("true")
    board.judge("wrong")
    assert board.judgements == {CLAIMS[0].key: "true"}
    assert not board.agrees(CLAIMS[0])


def test_an_unknown_verdict_is_refused():
    with pytest.raises(ValueError, match="'maybe' is no verdict"):
        Board().judge("maybe")


def test_moves_end_at_the_ends():
    board = Board()
    board.move(-1)
    assert board.current == CLAIMS[0]
    board.move(+3)
    assert board.current == CLAIMS[3]
    board.move(+100)
    assert board.current == CLAIMS[-1]


@pytest.mark.parametrize(("verdict", "agreed"), [("true", 6), ("imprecise", 11), ("wrong", 8)])
def test_scores_count_judgements_and_agreement_by_topic(verdict, agreed):
    board = Board()
    assert [row[2:] for row in board.scores()] == [(0, 0)] * 6
    for _ in CLAIMS:
        board.judge(verdict)
        board.move(+1)
    scores = board.scores()
    assert [row[0] for row in scores] == list(dict.fromkeys(claim.topic for claim in CLAIMS))
    assert sum(row[1] for row in scores) == sum(row[2] for row in scores) == 25
    assert sum(row[3] for row in scores) == agreed


# ------------------------------------------------------------------------------------------------------- the widgets


def everything_on(board):
    """All widgets of a board, by what they are called."""
    found, waiting = {}, [board._widget]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", [])
        if getattr(widget, "description", ""):
            found[widget.description] = widget
    return found


def page(board):
    return board._claim.value + board._evidence.value + board._score.value


def test_the_controls_have_names():
    controls = everything_on(ClaimBoard())
    assert set(controls) == {"Claim", "True", "Imprecise", "Wrong", "Previous claim", "Next claim"}
    assert all(controls[verdict.capitalize()].tooltip for verdict in VERDICTS)


def test_a_learner_judges_and_goes_on():
    board = ClaimBoard()
    controls = everything_on(board)
    assert escape(CLAIMS[0].text) in page(board)
    assert CLAIMS[0].evidence not in page(board), "the evidence comes after the judgement"
    assert controls["Previous claim"].disabled

    controls["Wrong"].click()
    assert board.judgements == {"small-images": "wrong"}
    assert CLAIMS[0].evidence in page(board)
    assert "You said wrong, too" in page(board)
    assert "1 of 25 judged, 1 as the evidence says" in page(board)
    assert controls["True"].disabled and controls["Imprecise"].disabled and controls["Wrong"].disabled

    controls["Next claim"].click()
    assert escape(CLAIMS[1].text) in page(board)
    assert CLAIMS[0].evidence not in page(board)
    assert not controls["True"].disabled and not controls["Previous claim"].disabled
    controls["True"].click()
    assert "You said true." in page(board)
    assert "2 of 25 judged, 1 as the evidence says" in page(board)

    controls["Previous claim"].click()
    assert CLAIMS[0].evidence in page(board) and controls["Wrong"].disabled


def test_the_list_goes_to_any_claim():
    board = ClaimBoard()
    controls = everything_on(board)
    controls["Claim"].value = 24
    assert escape(CLAIMS[24].text) in page(board)
    assert controls["Next claim"].disabled
    controls["Previous claim"].click()
    assert controls["Claim"].value == 23
    assert controls["Claim"].label == "24 of 25, chapter 2 Code and conclusion"


def test_two_boards_do_not_mix():
    one, other = ClaimBoard(), ClaimBoard()
    everything_on(one)["True"].click()
    assert one.judgements and not other.judgements


def test_what_was_judged_can_be_checked():
    board = ClaimBoard()
    assert check_judgements(board.judgements).status == "not attempted"
    everything_on(board)["True"].click()
    assert check_judgements(board.judgements).status == "wrong"


# --------------------------------------------------------------------------------------------- where widgets are dead


def test_a_saved_page_holds_all_claims_with_their_evidence_folded():
    bundle = ClaimBoard()._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/plain", "text/html"}
    assert bundle["text/plain"] == "Claim board: 25 claims, 0 judged"
    assert bundle["text/html"].count("<details>") == 25
    for claim in CLAIMS:
        folded = re.search(f"<summary>{re.escape(escape(claim.text))}</summary>(.*?)</details>", bundle["text/html"])
        assert escape(claim.evidence) in folded[1]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_the_evidence_names_its_sources(claim):
    html = evidence_html(claim)
    for source in claim.sources:
        assert f'href="{source.url}"' in html
        assert escape(source.place) in html


def test_a_screen_reader_hears_the_evidence_of_a_judgement_only():
    assert 'role="status"' in evidence_html(ORIGIN, "true")
    assert 'role="status"' not in evidence_html(ORIGIN)


def test_the_score_table_has_headers():
    html = score_html([("1 What it is", 6, 2, 1), ("2.1 Data", 3, 0, 0)])
    assert html.count('scope="col"') == 3 and html.count('scope="row"') == 2
    assert "2 of 9 judged, 1 as the evidence says" in html
    assert '<progress max="9" value="2" aria-label="Claims judged">' in html
