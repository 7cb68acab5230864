"""What holds for the exercises of every lecture: references pass, mistakes are caught and named, numbers are drawn."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from course_tools.notebook_source import exercise_of, read_source
from course_utils import exercises
from course_utils.calls import fresh
from course_utils.exercises import checking
from course_utils.exercises.checking import PARTIAL, earned, problem, stub

NAMES = [info.name for info in pkgutil.iter_modules(exercises.__path__) if info.name != "checking"]
MODULES = [import_module(f"course_utils.exercises.{name}") for name in NAMES]
EVERY = [pytest.param(module.check, exercise, id=id) for module in MODULES for id, exercise in module.EXERCISES.items()]


SOURCES = sorted((Path(exercises.__file__).parents[2] / "solutions").glob("*.md"))


def own(function):
    """Return the function as a student's: the check refuses the course's own."""
    return lambda *args: function(*args)


def tensors(args) -> list[torch.Tensor]:
    """Return the tensors among the arguments of a case, those inside lists and modules too."""
    found = []
    for a in args:
        if isinstance(a, torch.nn.Module):
            found += a.parameters()
        else:
            found += [a] if isinstance(a, torch.Tensor) else tensors(a) if isinstance(a, list | tuple) else []
    return found


def test_there_are_exercises():
    assert len(EVERY) == sum(len(module.EXERCISES) for module in MODULES) > 0
    assert {"divergences", "vae", "gan"} <= set(NAMES)


@pytest.fixture
def ungated(monkeypatch):
    """Let answers be made of the course's own functions, as references and mistakes are."""
    monkeypatch.setattr(checking, "own_of", lambda exercise, function: {})


@pytest.mark.usefixtures("ungated")
@pytest.mark.parametrize(("check", "exercise"), EVERY)
def test_reference_passes_and_mistakes_fail(check, exercise, capsys):
    right = own(exercise.reference)
    assert check(exercise.id, right) is right
    assert capsys.readouterr().out.startswith("✓")
    for mistake in exercise.mistakes:
        assert check(exercise.id, own(mistake.function)) is exercise.reference
        out = capsys.readouterr().out
        assert out.startswith("✗")
        assert mistake.message in out


@pytest.mark.slow
@pytest.mark.usefixtures("ungated")
@pytest.mark.parametrize(("check", "exercise"), EVERY)
def test_a_grader_with_another_seed_judges_alike(check, exercise):
    """It draws other numbers; the reference passes on all of them, every mistake fails, is named, earns little."""
    drawn = []
    for seed in range(5):
        cases = exercise.cases(torch.Generator().manual_seed(seed))
        drawn.append([t for case in cases for t in tensors(case.args)])
        assert not any(problem(exercise, case, exercise.reference) for case in cases)
        for mistake in exercise.mistakes:
            failures = [text for case in cases if (text := problem(exercise, case, mistake.function))]
            assert failures and mistake.message in failures[0]
            points = earned(exercise, len(cases) - len(failures), len(cases))
            assert points <= PARTIAL * exercise.points + 0.005
    for other in drawn[1:]:
        assert any(not torch.equal(a, b) for a, b in zip(drawn[0], other, strict=True))


CLUELESS = {
    "nothing": lambda *args: None,
    "zero": lambda *args: 0.0,
    "its first argument": lambda *args: args[0],
    "a mean": lambda *args: args[0].mean(),
    "a sum over the last axis": lambda *args: args[0].sum(-1),
    "zeros of the first argument's shape": lambda *args: torch.zeros_like(args[0]),
    "half": lambda *args: torch.full_like(args[0], 0.5),
    "its first two arguments": lambda *args: args[:2],
    "two zeros": lambda *args: (0.0, 0.0),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_no_idea_earns_next_to_nothing_in_a_whole_lecture(module, seed):
    """Not even for who picks, of all that one can return without an idea, what happens to be right most often."""

    def right(exercise, case, answer) -> bool:
        try:
            value = answer(*fresh(case.args))
        except (TypeError, AttributeError, RuntimeError, IndexError):  # that the arguments are not made for
            return False
        return checking.is_right(exercise, case, value, exercise.reference(*fresh(case.args)))

    best = 0.0
    for exercise in module.EXERCISES.values():
        cases = exercise.cases(torch.Generator().manual_seed(seed))
        passed = [sum(right(exercise, case, answer) for case in cases) for answer in CLUELESS.values()]
        best += earned(exercise, max(passed), len(cases))
    assert best <= 0.05 * sum(exercise.points for exercise in module.EXERCISES.values())


@pytest.mark.parametrize(("check", "exercise"), EVERY)
def test_sigma_is_a_standard_deviation_in_what_is_told(check, exercise):
    """As in the lectures; the logistic function is called sigmoid. (σ(t) may be the width at a time.)"""
    cases = exercise.cases(torch.Generator().manual_seed(0))
    told = [exercise.hint, *(m.message for m in exercise.mistakes), *(text for _, text in exercise.errors)]
    told += [text for case in cases for text in (case.label, case.hint)]
    assert [text for text in told if re.search(r"σ\((?!t\))", text)] == []


@pytest.mark.parametrize(("check", "exercise"), EVERY)
def test_the_courses_own_functions_are_there_and_told(check, exercise):
    """Whatever their name: each of those that an exercise asks for is found, and the reference is one of them."""
    own = checking.own_of(exercise, print)
    assert set(own) == {*(name for name in exercise.own if "." in name), exercise.function}
    alias = {"as it is": own[exercise.function]}
    (case, *_) = exercise.cases(torch.Generator().manual_seed(0))
    text = problem(exercise, case, lambda *args: next(iter(alias.values()))(*args))
    assert f"`{exercise.function}` is the course's own function for this" in text
    assert "gate" not in exercise.reference.__code__.co_name  # nothing is left of it


@pytest.mark.parametrize(("check", "exercise"), EVERY)
def test_an_exercise_can_be_opened_again(check, exercise, capsys):
    """What `check.reset` prints defines the open function, and the check takes it for open."""
    names: dict = {"torch": torch}
    exec(stub(exercise), names)
    assert exercise.reference.__doc__ and check(exercise.id, names[exercise.function]) is exercise.reference
    assert capsys.readouterr().out.startswith(f"○ Exercise {exercise.id}")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_references_signature_is_that_of_the_function_in_the_notebook(source):
    """Names too: they stand in the messages, in the line that calls one's own again, in what `check.reset` prints."""
    text = source.read_text("utf-8")
    known = import_module(re.search(r"from (course_utils\.exercises\.\w+) import check", text)[1]).EXERCISES
    cells = {exercise_of(cell): cell.source for cell in read_source(text) if exercise_of(cell) in known}
    assert set(cells) == set(known)
    for id, exercise in known.items():
        names: dict = {"torch": torch, "nn": torch.nn}
        exec(cells[id], names)
        given = inspect.signature(names[exercise.function])
        assert str(given) == str(inspect.signature(exercise.reference)), id
