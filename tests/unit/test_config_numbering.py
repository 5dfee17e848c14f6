# SPDX-License-Identifier: Apache-2.0
"""Numbers that outlive reloads."""

import pytest

from fastdns.control.config.numbering import KINDS, Numbers


def test_numbers_are_kept() -> None:
    first = Numbers().begin()
    assert first.give("zones", ["a", "b"], 10) == {"a": 0, "b": 1}
    second = first.begin()
    assert second.give("zones", ["c", "b"], 10) == {"c": 2, "b": 1}
    third = second.begin()
    assert third.give("zones", ["a", "b", "c"], 10) == {"a": 0, "b": 1, "c": 2}
    assert (first.generation, second.generation, third.generation) == (1, 2, 3)


def test_a_failed_configuration_changes_nothing() -> None:
    numbers = Numbers().begin()
    numbers.give("zones", ["a"], 10)
    numbers.begin().give("zones", ["b"], 10)
    assert numbers.begin().give("zones", ["c"], 10) == {"c": 1}


def test_the_way_back_from_a_configuration_that_was_given_up() -> None:
    """Each key means what it meant before; what was given since is given to nobody else."""
    former = Numbers().begin()
    former.give("zones", ["a", "b"], 3)
    former.give("groups", ["x"], 3)
    failed = former.begin().begin()  # "a" is idle, and all are taken
    failed.give("zones", ["b", "c", "d"], 3)
    failed.give("groups", ["y"], 3)
    assert failed.known["zones"]["d"][0] == 0
    back = failed.after_failure(former)
    assert back.generation == failed.generation + 1
    assert {key: number for key, (number, _) in back.known["zones"].items()} == {"a": 0, "b": 1, "c": 2}
    assert back.begin().give("groups", ["x", "z", "y"], 3, again=False) == {"x": 0, "z": 2, "y": 1}


def test_the_register_goes_with_the_configuration() -> None:
    numbers = Numbers().begin()
    numbers.give("zones", ["a", "b"], 10)
    numbers.give("listeners", ["127.0.0.1:53"], 10)
    again = Numbers.read(numbers.dump())
    assert again == numbers
    assert again.begin().give("zones", ["b"], 10) == {"b": 1}
    assert Numbers.read(b"") == Numbers()


@pytest.mark.parametrize("notes", [b"x", b"[]", b"{}", b'{"version":2}', b'{"version":1,"generation":1}'])
def test_notes_of_something_else(notes: bytes) -> None:
    with pytest.raises(ValueError, match="notes"):
        Numbers.read(notes)


def test_what_is_idle_longest_goes_first() -> None:
    numbers = Numbers().begin()
    numbers.give("zones", ["a", "b"], 3)
    numbers = numbers.begin()
    numbers.give("zones", ["b", "c"], 3)
    numbers = numbers.begin()
    numbers.give("zones", ["c"], 3)
    assert numbers.give("zones", ["d"], 3) == {"d": 0}, "a was given up before b"
    assert numbers.give("zones", ["e", "f"], 3) == {"e": 1}, "c and d are in use"


def test_some_are_never_given_again() -> None:
    numbers = Numbers().begin()
    assert numbers.give("series", ["a", "b", "c"], 2, again=False) == {"a": 0, "b": 1}
    assert numbers.begin().give("series", ["c"], 2, again=False) == {}


def test_a_new_register_has_all_kinds() -> None:
    assert set(Numbers().known) == set(KINDS)
