"""Errors for bad input: they name what was given, what is allowed, the nearest, and stay short."""

import pytest

from course_utils.errors import LISTED, choose


def test_what_is_allowed_is_returned():
    assert choose("b", ["a", "b"], "letter") == "b"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cdua", r"device 'cdua' is not known; allowed: 'cpu', 'cuda'; did you mean 'cuda'\?$"),
        ("CPU", r"did you mean 'cpu'\?$"),
        ("gpu", r"did you mean 'cuda'\?$"),
        ("xyz", r"device 'xyz' is not known; allowed: 'cpu', 'cuda'$"),
    ],
)
def test_the_nearest_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        choose(value, ["cpu", "cuda"], "device", {"gpu": "cuda"})


def test_of_many_some_are_told_and_the_nearest_of_all():
    names = [f"student {i:03d}" for i in range(300)]
    with pytest.raises(ValueError, match=rf"and {300 - LISTED} more; did you mean 'student 299'\?$") as raised:
        choose("student299", names, "student")
    assert len(str(raised.value)) < 800
