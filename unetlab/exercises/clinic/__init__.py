"""The bug clinic of ``05b_bug_clinic``: broken runs to diagnose. ``Clinic`` is where to begin."""

from unetlab.exercises.clinic.case import CASES as CASES
from unetlab.exercises.clinic.visit import Clinic as Clinic
