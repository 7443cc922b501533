"""Packed training: several trainings of one architecture at once, such as trials of a search or folds."""

from dle_training.packed.loop import Member as Member
from dle_training.packed.loop import MemberFailure as MemberFailure
from dle_training.packed.loop import MemberResult as MemberResult
from dle_training.packed.loop import fit as fit
from dle_training.packed.loop import fit_if_possible as fit_if_possible
from dle_training.packed.loop import signature as signature
from dle_training.packed.timing import faster as faster
