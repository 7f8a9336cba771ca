"""A bounded number of hostile inputs at every run."""

from collections import Counter
from random import Random

import pytest

from tests.nbd.fuzz import TARGETS, fuzz_one, mutants

INPUTS = 1500


@pytest.mark.parametrize("fixed", range(4))
def test_protocol_under_known_mutants_keeps_its_promises(fixed: int) -> None:
    """No input crashes an end of the wire, makes it hoard, or makes it send nonsense."""
    for data in mutants(Random(fixed), count=INPUTS):
        fuzz_one(data)


def test_protocol_under_new_mutants_keeps_its_promises(seed: int) -> None:
    """The same, with other inputs at every run; the seed is shown beside a failure."""
    for data in mutants(Random(seed), count=INPUTS):
        fuzz_one(data)


def test_mutants_of_a_seed_reach_every_target() -> None:
    """The generator repeats itself for a seed, and leaves no end of the wire out."""
    first = list(mutants(Random(1), count=200))
    assert first == list(mutants(Random(1), count=200))
    assert Counter(data[0] for data in first).keys() == set(range(len(TARGETS)))
