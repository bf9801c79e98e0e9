"""The claims of an online article, what the evidence says of each, and the checkers of ``00_read_the_article``.

The data stand in ``claims.toml``, in our own words; every verdict names its source.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

VERDICTS = ("true", "imprecise", "wrong")


@dataclass(frozen=True)
class Source:
    """Where a piece of evidence stands: the work, its address, and the place in it."""

    citation: str
    url: str
    place: str


@dataclass(frozen=True)
class Claim:
    """One claim of the article. ``verdict`` is one of ``VERDICTS``; ``instead`` is what one may safely say."""

    key: str
    topic: str  # begins with the article's chapter number
    text: str
    verdict: str
    evidence: str
    instead: str
    sources: tuple[Source, ...]


def _load() -> tuple[Claim, ...]:
    data = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))
    claims = []
    for row in data["claims"]:
        sources = tuple(Source(**data["sources"][source["ref"]], place=source["place"]) for source in row["sources"])
        claims.append(Claim(**row | {"sources": sources}))
    return tuple(claims)


CLAIMS = _load()


def check_judgements(judgements: Mapping[str, str] | None) -> Verdict:
    """Compare a learner's judgements with the evidence.

    Args:
        judgements: verdict ("true", "imprecise", "wrong") by the key of the claim, for as many claims as were judged;
            ``ClaimBoard.judgements`` has this form.
    """
    judged = {key: verdict for key, verdict in (judgements or {}).items() if verdict is not None}
    if not judged:
        return not_attempted('Judge some claims on the board first, or write them down: {"origin": "wrong"}.')
    by_key = {claim.key: claim for claim in CLAIMS}
    for key, verdict in judged.items():
        if key not in by_key:
            near = difflib.get_close_matches(str(key), by_key, n=1)
            return wrong(f"no claim has the key {key!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        if verdict not in VERDICTS:
            return wrong(f'{verdict!r}, given for {key!r}, is no verdict: write "true", "imprecise" or "wrong".')
    missed = [by_key[key] for key, verdict in judged.items() if verdict != by_key[key].verdict]
    left = len(CLAIMS) - len(judged)
    if not missed:
        return right(f"All {len(judged)} judgements agree with the evidence; {left} claims are left.")
    reasons = [f"{c.key}: you said {judged[c.key]}, the evidence says {c.verdict}. {c.instead}" for c in missed]
    return wrong(f"{len(missed)} of your {len(judged)} judgements differ from the evidence:", *reasons)


def check_updates(updates: Mapping[int, int] | None, samples: int, epochs: int) -> Verdict:
    """Check the number of optimizer steps that a run makes, by its batch size.

    Args:
        updates: steps by batch size.
        samples: training images. ``epochs``: the length of the run.
    """
    updates = updates or {}
    if not updates or None in updates.values():
        return not_attempted("Write the number of updates beside each batch size.")
    for batch, answer in updates.items():
        per_epoch = -(-samples // batch)
        if answer == per_epoch * epochs:
            continue
        if answer == per_epoch:
            return wrong(f"{answer} is one epoch of batch {batch}; the run has {epochs} epochs.")
        if answer == batch * epochs:
            return wrong(f"{answer} is batch size times epochs. How many batches of {batch} fill {samples} images?")
        if answer == samples * epochs:
            return wrong(f"{answer} counts the images that batch {batch} saw. An update comes once a batch.")
        return wrong(f"batch {batch} does not make {answer} updates: count the batches of an epoch, then the epochs.")
    return right("The largest batch learns from as many images as the others, in the fewest steps.")


# What a sentence on the origin of U-Net must not say: (pattern, why not).
_MISTAKES = [
    (r"\brussian?\b|\bberlin\b", "the title page says University of Freiburg, Germany; no Russia and no Berlin."),
    (r"\bclinical\b|(?<!bio-)\bmedical\b(?! image computing)", "the paper is biomedical: it shows cells, no patients."),
    (r"\bsmall images?\b", "the paper says few annotated images, not small ones (abstract)."),
    (r"\bdice\b", "the Dice loss came in 2016 with V-Net; U-Net had a weighted cross-entropy (section 3)."),
    (r"\bbatch[- ]?norm", "no batch normalisation is described in the paper."),
    (r"\bearly[- ]stopping\b", "no early stopping is described in the paper."),
    (r"\blearning[- ]rate (?:schedule|decay)", "no learning-rate schedule is described in the paper."),
]
# And what it must say: (pattern, what is missing).
_NEEDED = [
    (r"\bronneberger\b", "who proposed it is missing: Olaf Ronneberger, Philipp Fischer and Thomas Brox."),
    (r"\bfreiburg\b", "where is missing: the University of Freiburg, Germany."),
    (
        r"\bbio-?medical\b|\bmicroscop|\bcells?\b",
        "for what is missing: biomedical images, or cells under the microscope.",
    ),
    (r"1505\.04597|10\.1007/978-3-319-24574-4_28", "a citation is missing that one can open: arXiv 1505.04597, say."),
]
_CLAUSE_END = re.compile(r"[.;:](?:\s|$)|,? but\b")
_DENIED_BEFORE = re.compile(r"\b(?:no|not|never|neither|nor|without|rather than|instead of)\b|n't\b")
_DENIED_AFTER = re.compile(r"(?: \w+)? (?:is|are|was|were)(?: not| never|n't)\b")


def check_sentence(sentence: str | None) -> Verdict:
    """Check a sentence that says who proposed U-Net, where, when and for what, with a citation; every mistake is named.

    Args:
        sentence: the learner's text, English; None, "" or "..." is not an attempt.
    """
    text = " ".join((sentence or "").lower().split())
    if not text.strip(" ."):
        return not_attempted("Write who proposed U-Net, where, when and for what, and cite the paper.")
    clauses = [clause for clause in _CLAUSE_END.split(text) if "v-net" not in clause]
    mistakes = [why for pattern, why in _MISTAKES if any(_asserts(clause, pattern) for clause in clauses)]
    years = {year for clause in clauses for year in re.findall(r"(?<![./-])\b(?:19|20)\d\d\b", clause)}
    if years != {"2015"}:
        mistakes.append(
            "the year is 2015 (MICCAI, and arXiv in May)" + "".join(f", not {y}" for y in years - {"2015"}) + "."
        )
    for number in re.findall(r"\b\d{4}\.\d{5}\b", text):
        if number != "1505.04597":
            mistakes.append(f"{number} is the number of another paper; U-Net is arXiv 1505.04597.")
    mistakes += [what for pattern, what in _NEEDED if not re.search(pattern, text)]
    if mistakes:
        return wrong("of what follows:", *mistakes)
    return right("Who, where, when, what for, and a citation that anyone can open.")


def _asserts(clause: str, pattern: str) -> bool:
    """Whether a clause says this and does not deny it ("no Dice loss", "Dice loss was not used")."""
    found = re.search(pattern, clause)
    return bool(found) and not (
        _DENIED_BEFORE.search(clause[: found.start()]) or _DENIED_AFTER.match(clause[found.end() :])
    )
