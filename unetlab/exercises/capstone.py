"""Checkers for the exercises of ``05d_capstone``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

CARD = {
    "A": "Split: at random by picture; 6 pictures of each patient.",
    "B": "Counted as: Dice, mean over the pictures.",
    "C": "The test split was opened 4 times; the best of the four is given.",
    "D": "Steered by hand: 3 moves, kept in history.json.",
    "E": "Tried: 10 settings, one seed each; the best validation Dice is called an improvement of 0.01.",
    "F": "Grey values scaled by the mean of all pictures, the test pictures included.",
}
_FAULTS = {
    "A": "pictures of one patient stand on both sides, so the score measures memory",
    "C": "the best of four openings was chosen by the test split, which then is a validation split",
    "E": "the best of ten is lucky, and one seed each cannot tell 0.01 from luck",
    "F": "what is fitted must not see the test pictures, not even as a mean",
}
_HARMLESS = {
    "B": "that is a plain definition, and the reader needs it",
    "D": "recorded moves can be made again; it is a recipe like another, as long as the card says so",
}


def check_keep(function: Callable) -> Verdict:
    """``keep(differences)``: whether a change stays, given its Dice minus the baseline's for each seed."""
    cases = [
        ([0.02, 0.01, 0.03], True, "each of three seeds gained"),
        ([0.09, -0.01, -0.01], False, "the mean is positive, but only because one seed gained a lot"),
        ([0.05, 0.04, -0.001], False, "one seed lost, if only a little: the rule says every seed"),
        ([0.03, 0.0, 0.02], False, "one seed gained nothing: 0 is no gain"),
        ([0.2], False, "there is a single seed, and the rule asks for three"),
        ([0.2, 0.1], False, "there are two seeds, and the rule asks for three"),
        ([-0.02, -0.01, -0.03], False, "every seed lost"),
        ([0.01, 0.01, 0.02, 0.01, 0.03], True, "five seeds, and each of them gained"),
    ]
    for differences, truth, why in cases:
        answer = function(list(differences))
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: return True or False.")
        if bool(answer) != truth:
            return wrong(f"for {differences} you {'keep' if answer else 'drop'} the change, but {why}.")
    return right(
        "with no effect at all, three seeds agree by luck once in eight times. More seeds, fewer such surprises."
    )


def check_faults(answer: set | list | str | None) -> Verdict:
    """The letters of ``CARD`` after which its score should not be believed."""
    if answer is None or answer is Ellipsis or len(answer) == 0:
        return not_attempted('write the letters, such as {"A", "B"}.')
    letters = {str(letter).strip().upper() for letter in answer}
    if unknown := letters - CARD.keys():
        return wrong(f"there is no line {', '.join(sorted(unknown))} on the card: the letters are A to F.")
    accused = [f"{letter} is no fault: {_HARMLESS[letter]}." for letter in sorted(letters & _HARMLESS.keys())]
    missed = [f"{letter} spoils the score: {_FAULTS[letter]}." for letter in sorted(_FAULTS.keys() - letters)]
    if accused or missed:
        return wrong("not every line was judged rightly.", *accused, *missed)
    return right(
        "four lines spoil the score, two only describe it. A card that tells its faults is worth more than a high number."
    )
