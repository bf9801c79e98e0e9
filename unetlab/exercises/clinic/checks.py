"""Checkers for the exercises of ``05b_bug_clinic``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable, Collection

import torch

from unetlab.exercises.clinic.visit import POINTS, Clinic
from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong


def check_round(clinic: Clinic, known: Collection[int] = (), patients: int = 10) -> Verdict:
    """Whether enough patients were diagnosed, at half of the points or more.

    Args:
        known: numbers of patients that do not count, as the page has shown their answers.
        patients: how many are enough.
    """
    visits = [visit for number, visit in clinic.visits.items() if number not in known]
    touched = [visit for visit in visits if visit.findings or visit.tried or visit.diagnosed or visit.treated]
    done = [visit for visit in touched if visit.diagnosed]
    if not touched:
        return not_attempted("no patient was seen yet: choose one, buy a probe, name the cause.")
    if len(done) < patients:
        waiting = next(visit.case for visit in visits if not visit.diagnosed and not visit.treated)
        return wrong(
            f"{len(done)} of {patients} patients are diagnosed so far. Next could be patient {waiting.number}, "
            f"“{waiting.title}”."
        )
    mean = sum(visit.score for visit in done) / len(done)
    if mean < POINTS / 2:
        guesses = sum(len(visit.tried) for visit in done)
        advice = "you named causes before you had a finding" if guesses > len(done) / 2 else "you bought many probes"
        return wrong(
            f"the {len(done)} diagnoses have {mean:.1f} of {POINTS} points on average; half are asked: {advice}. "
            "Before you pay, ask which answer would tell two of the causes apart. Clinic() starts afresh."
        )
    return right(f"{len(done)} diagnoses at {mean:.1f} of {POINTS} points on average: you ask before you treat.")


def check_vital_signs(function: Callable) -> Verdict:
    """``vital_signs(images, masks, classes)``: a list of complaints about a training set, empty if all is well.

    ``images`` is a float tensor (N, C, H, W), ``masks`` a tensor (N, H, W) of any type that should hold 0 to classes - 1.
    """
    images = torch.linspace(0, 1, 2 * 8 * 8).reshape(2, 1, 8, 8)
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[:, 2:6, 2:6] = 1
    spoilt = images.clone()
    spoilt[1, 0, 3, 3] = float("nan")
    one_empty, third = masks.clone(), masks.clone()
    one_empty[0] = 0
    third[0, 4:6, 4:6] = 2
    soft = masks.float()
    soft[:, 2, 2:6] = 0.5
    healthy = {
        "a healthy set of two classes": (images, masks, 2),
        "a healthy set of three classes": (images, third, 3),
        "a healthy set with masks of type float": (images, masks.float(), 2),
        "a set in which one image of two has no object, which is nothing unusual,": (images, one_empty, 2),
    }
    sick = {
        "masks of 0 and 255": (images, 255 * masks, 2),
        "a mask with class 2 where there are two classes": (images, third, 2),
        "masks with a value of -1": (images, -masks, 2),
        "masks with values between the classes, as interpolation makes them,": (images, soft, 2),
        "masks without any object in the whole set": (images, 0 * masks, 2),
        "an image with nan in it": (spoilt, masks, 2),
        "masks of another height than the images": (images, masks[:, :7], 2),
        "a mask less than there are images": (images, masks[:1], 2),
    }
    for what, arguments in (healthy | sick).items():
        try:
            answer = function(*(x.clone() if isinstance(x, torch.Tensor) else x for x in arguments))
        except Exception as error:
            return wrong(f"for {what} it fails ({type(error).__name__}: {error}); it should return its complaints.")
        if answer is None or answer is Ellipsis:
            return not_attempted(
                "your function returns nothing yet: return a list of complaints, empty if all is well."
            )
        if not isinstance(answer, list):
            return wrong(f"it returns a {type(answer).__name__}; asked is a list of sentences.")
        if what in healthy and answer:
            return wrong(f"it complains about {what}: “{answer[0]}”. A false alarm is soon ignored.")
        if what in sick and not answer:
            return wrong(f"it says nothing about {what}.")
    return right("it is silent on four healthy sets and speaks up on eight sick ones. Run it before the first epoch.")
