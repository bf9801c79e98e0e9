"""The claims are whole, and the checkers of the first notebook name every known mistake."""

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from unetlab.exercises import claims
from unetlab.exercises.claims import CLAIMS, VERDICTS, Claim, check_judgements, check_sentence, check_updates

KEY = {claim.key: claim.verdict for claim in CLAIMS}
RIGHT = (
    "Olaf Ronneberger, Philipp Fischer and Thomas Brox of the University of Freiburg, Germany, proposed U-Net in 2015 "
    "for biomedical images (MICCAI 2015, arXiv 1505.04597)."
)


def said(verdict, status, *parts):
    """Assert the status of a verdict, and that each part stands in its message."""
    assert verdict.status == status, verdict
    for part in parts:
        assert part in verdict.message
    return True


# --------------------------------------------------------------------------------------------------------- the data


def test_25_claims_in_the_order_of_the_article():
    assert len(CLAIMS) == len(KEY) == 25
    topics = [claim.topic for claim in CLAIMS]
    assert topics == sorted(topics, key=list(dict.fromkeys(topics)).index), "a topic is torn apart"
    assert Counter(KEY.values()) == {"true": 6, "imprecise": 11, "wrong": 8}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_is_whole(claim):
    assert claim.verdict in VERDICTS
    assert re.fullmatch(r"[a-z-]+", claim.key)
    assert re.match(r"[12](\.\d)? [A-Z]", claim.topic), "a topic begins with the article's chapter"
    for text in (claim.text, claim.evidence, claim.instead):
        assert text == text.strip()
        assert text.endswith((".", "?", ")"))
        assert "  " not in text and "\n" not in text
    assert claim.sources
    for source in claim.sources:
        assert source.url.startswith("https://")
        assert source.citation and source.place
    assert (claim.verdict == "true") == claim.instead.startswith("True")


def test_no_field_is_forgotten():
    assert all(getattr(claim, field.name) for claim in CLAIMS for field in fields(Claim))


def test_the_claims_are_in_our_own_words():
    """The article is Chinese; none of its sentences may stand here."""
    text = Path(claims.__file__).with_name("claims.toml").read_text(encoding="utf-8")
    assert not re.search(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]", text)


# -------------------------------------------------------------------------------------------------- check_judgements


@pytest.mark.parametrize("nothing", [None, {}, {"origin": None}])
def test_no_judgements_yet(nothing):
    assert said(check_judgements(nothing), "not attempted", "Judge some claims", "origin")


def test_right_judgements():
    assert said(check_judgements(KEY), "right", "All 25 judgements", "0 claims are left")
    assert said(check_judgements({"origin": "wrong", "fcn": None}), "right", "All 1 judgements", "24 claims are left")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_wrong_judgement_gets_the_evidence(claim, verdict):
    if verdict != claim.verdict:
        answer = check_judgements(KEY | {claim.key: verdict})
        reason = f"{claim.key}: you said {verdict}, the evidence says {claim.verdict}. {claim.instead}"
        assert said(answer, "wrong", "1 of your 25 judgements differ", reason)
        assert answer.message.count("•") == 1


def test_a_mistyped_key_or_verdict():
    assert said(check_judgements({"orgin": "wrong"}), "wrong", "no claim has the key 'orgin'", "mean 'origin'?")
    assert said(check_judgements({7: "wrong"}), "wrong", "no claim has the key 7.")
    assert said(check_judgements({"origin": False}), "wrong", "False, given for 'origin', is no verdict", '"imprecise"')


# ---------------------------------------------------------------------------------------------------- check_sentence


@pytest.mark.parametrize("nothing", [None, "", "  ", "..."])
def test_no_sentence_yet(nothing):
    assert said(check_sentence(nothing), "not attempted", "who proposed U-Net")


@pytest.mark.parametrize(
    "sentence",
    [
        RIGHT,
        "In 2015 Ronneberger et al. (University of Freiburg) proposed U-Net for bio-medical images, arXiv:1505.04597v1.",
        "Ronneberger, Fischer, Brox, Freiburg: U-Net, 2015, for cells. https://doi.org/10.1007/978-3-319-24574-4_28",
        RIGHT.replace("MICCAI", "Medical Image Computing and Computer-Assisted Intervention"),
        RIGHT + " Not in Berlin, Russia, but in Freiburg.",
        RIGHT + " It was trained on few, not on small images, and used neither Dice nor batch normalisation.",
        RIGHT + " The Dice loss was not used. They didn't use early stopping or a learning-rate schedule.",
        RIGHT + " The Dice loss came with V-Net in 2016.",
    ],
)
def test_right_sentences(sentence):
    assert said(check_sentence(sentence), "right")


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        (RIGHT.replace("Germany", "Russia"), "no Russia and no Berlin"),
        (RIGHT + " It was a Russian team.", "no Russia and no Berlin"),
        ("A team in Berlin made U-Net.", "no Russia and no Berlin"),
        (RIGHT.replace("biomedical", "clinical"), "the paper is biomedical"),
        (RIGHT.replace("biomedical", "medical"), "the paper is biomedical"),
        (RIGHT + " It segments small images.", "few annotated images, not small ones"),
        (RIGHT + " It was trained with Dice loss.", "the Dice loss came in 2016 with V-Net"),
        (RIGHT + " It was trained with Dice loss, not cross-entropy.", "the Dice loss came in 2016 with V-Net"),
        (RIGHT + " It did not use Adam but Dice loss.", "the Dice loss came in 2016 with V-Net"),
        (RIGHT + " Each convolution has a BatchNorm.", "no batch normalisation"),
        (RIGHT + " Batch normalisation made it fast.", "no batch normalisation"),
        (RIGHT + " Early stopping ended the run.", "no early stopping"),
        (RIGHT + " A learning rate schedule helped.", "no learning-rate schedule"),
        (RIGHT.replace("2015", "2014"), "the year is 2015 (MICCAI, and arXiv in May), not 2014"),
        (RIGHT.replace("2015", ""), "the year is 2015 (MICCAI, and arXiv in May)."),
        (RIGHT.replace("1505.04597", "1606.04797"), "1606.04797 is the number of another paper"),
        (RIGHT.replace("arXiv 1505.04597", ""), "a citation is missing"),
        (RIGHT.replace("Ronneberger", "R."), "who proposed it is missing"),
        (RIGHT.replace("Freiburg", "Munich"), "where is missing"),
        (RIGHT.replace("for biomedical images", ""), "for what is missing"),
    ],
)
def test_each_known_mistake_is_named(sentence, message):
    assert said(check_sentence(sentence), "wrong", message)


def test_one_mistake_gives_one_message():
    assert check_sentence(RIGHT + " It was trained with Dice loss.").message.count("•") == 1


def test_the_sentence_of_the_article_has_five_things_to_mend():
    claim = next(claim for claim in CLAIMS if claim.key == "origin")
    answer = check_sentence(claim.text)
    assert said(answer, "wrong", "no Berlin", "biomedical", "who proposed it", "where", "citation")
    assert "the year" not in answer.message


# ----------------------------------------------------------------------------------------------------- check_updates


@pytest.mark.parametrize("nothing", [None, {}, {1: None, 96: 3}])
def test_no_updates_yet(nothing):
    assert said(check_updates(nothing, 96, 3), "not attempted")


def test_right_updates():
    assert said(check_updates({1: 288, 4: 72, 16: 18, 96: 3}, 96, 3), "right")
    assert said(check_updates({64: 6}, 96, 3), "right"), "the last, smaller batch is a step too"


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({16: 6}, "6 is one epoch of batch 16; the run has 3 epochs."),
        ({16: 48}, "48 is batch size times epochs"),
        ({16: 288}, "288 counts the images that batch 16 saw"),
        ({16: 19}, "batch 16 does not make 19 updates"),
        ({64: 3}, "batch 64 does not make 3 updates"),
        ({1: 288, 4: 73}, "batch 4 does not make 73"),
    ],
)
def test_each_miscount_is_explained(updates, message):
    assert said(check_updates(updates, 96, 3), "wrong", message)
