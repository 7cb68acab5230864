"""From a submission to what each exercise earns. Expected values are compared here, outside the student's kernel.

All answers run together first, in one kernel, as in the student's own notebook. What is not right then runs again
alone, in a sandbox of its own, with the reference in place of earlier answers that failed and that it calls; so
neither an endless loop nor a patched library reaches another exercise. An answer that was right together stays
right: it gave the expected numbers, and nothing in the sandbox knew them.

Of the course's own functions those are gone that do what the judged exercises ask for: together, of all of them;
alone, of this one. So who calls the function of another exercise for a purpose of his own is right at last, alone.
"""

import builtins
import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from course_tools.grading.book.records import Call, Error, Result
from course_tools.grading.hand_in.release import MODULES
from course_tools.grading.hand_in.submission import Flag, Submission, tokens_of
from course_tools.grading.inside import exchange
from course_tools.grading.inside.job import Cell
from course_tools.grading.judge.assignment import PARAMETERS, Assignment
from course_tools.grading.judge.sandbox import Budget, Grounds, Run
from course_utils.calls import Returned
from course_utils.exercises.checking import (
    Case,
    Exercise,
    advice_on,
    earned,
    fault,
    furthest,
    in_words,
    of_the_course,
    summary,
)

LONGEST = 2000  # characters of one text in a result
HARNESS = "from course_tools.grading.inside import harness as _harness"
JOINT_SECONDS = 10.0  # for an exercise while all run together; alone it has its whole time
BESIDE = 0.4  # of an exercise's time, at most, for what stands in its cell beside the function
NOT_SHOWN = "not shown, since the course's answer to another exercise ran beside it"
MENTIONED = 3  # statements that were skipped


@dataclass
class Outcome:
    """What one call gave: a value and what is wrong with it, or an exception."""

    value: object = None
    advice: str = ""
    error: Error | None = None
    passed: bool = False
    own: tuple[str, ...] = ()  # of the course's functions that it would leave the work to


def shorten(text: str) -> str:
    """Return a text of limited length, without surrogates that no file can hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def error_of(kind: str, text: str, line: str = "") -> Error:
    """Return an exception from what was told of it; Python's own text names what was not defined."""
    kind, text, line = map(shorten, (kind, text, line))
    unknown = re.match(r"name '([^'\n]{1,80})' is not defined", text) if kind == "NameError" else None
    return Error(kind, text, line, unknown[1] if unknown else "")


def sent_calls(text: str, total: int) -> dict[int, dict]:
    """Return call → what a student's kernel sent of it; nothing of what the harness never sends."""
    try:
        sent = exchange.parse(text)
    except ValueError:
        return {}
    sent = sent if isinstance(sent, dict) else {}
    return {number: sent[str(number)] for number in range(total) if isinstance(sent.get(str(number)), dict)}


def returned(sent: dict, exercise: Exercise) -> Returned:
    """Return what a call gave, as the harness sent it. Raises ``ValueError`` for any other form."""
    gradients, changed = sent.get("gradients", []), sent.get("changed", [])
    if not isinstance(gradients, list) or not isinstance(changed, list):
        raise ValueError("the answer came back in another form than the grader's own")
    decoded = tuple(exchange.decode_stranger(v) for v in gradients)
    places = tuple(place for place in changed if type(place) is int and place >= 0)
    return Returned(exchange.decode_stranger(sent["value"]), decoded, places, shorten(str(sent.get("why", ""))))


def outcome_of(sent: dict, exercise: Exercise, case: Case, expected) -> Outcome:
    """Return the outcome of a call that the harness sent, compared."""
    if "value" in sent:
        try:
            got = returned(sent, exercise)
        except ValueError as error:
            return Outcome(error=error_of("ValueError", str(error)))
        advice = fault(exercise, case, got, expected)
        return Outcome(value=got.value, advice=advice or "", passed=advice is None)
    kind, text, line = (str(sent.get(name, "")) for name in ("error", "text", "line"))
    told = sent.get("own")
    own = tuple(name for name in exercise.own if isinstance(told, list) and name in told)
    return Outcome(error=error_of(kind or "Exception", text, line), own=own)


def outcomes(exercise: Exercise, cases: list[Case], expected: list, run: Run) -> dict[int, Outcome]:
    """Return case → outcome, of the calls that came back."""
    found = {}
    for cell, told in run.told.items():
        if cell[:2] == ("calls", exercise.id) and told["calls"] is not None:
            for number, sent in sent_calls(told["calls"], len(expected)).items():
                if not sent.get("undefined"):
                    found[number] = outcome_of(sent, exercise, cases[number], expected[number])
    return found


def is_memory(error: Error | None) -> bool:
    """Tell whether an exception says that memory was refused."""
    if error is None:
        return False
    return error.type == "MemoryError" or "allocate memory" in error.text or "out of memory" in error.text.lower()


def is_open(exercise: Exercise, outcome: Outcome) -> bool:
    """Tell whether an outcome is the error that stands in an open exercise."""
    error = outcome.error
    return error is not None and (error.type, error.text) == ("NotImplementedError", f"Exercise {exercise.id}")


def describe_call(exercise: Exercise, case: Case, expected, outcome: Outcome | None) -> Call:
    """Return one call: its values in words, its error as it is."""
    got, advice, error = None, "", outcome.error if outcome else None
    if error is not None and outcome.own:
        advice = of_the_course(outcome.own[0])
    elif error is not None:
        advice = "" if error.type == "NameError" else advice_on(exercise, error.text)
    elif outcome is not None:
        got = summary(outcome.value)
        advice = outcome.advice
        if not outcome.passed:
            got += f"; {far}" if (far := furthest(outcome.value, expected)) and not exercise.accepts else ""
    label, called, wanted = map(shorten, (case.label, in_words(exercise, case), summary(expected)))
    passed = outcome is not None and outcome.passed
    return Call(label, called, None if got is None else shorten(got), wanted, passed, advice, error)


def status_of(exercise: Exercise, run: Run, found: list[Outcome], error: Error | None, total: int) -> str:
    """Return the status of an exercise from the outcomes of its calls, its cell's error, and how its run ended."""
    passed = sum(outcome.passed for outcome in found)
    if passed == total:
        return "correct"
    if run.stopped:
        return run.stopped
    if any(map(is_memory, (error, *(outcome.error for outcome in found)))):
        return "memory"
    if not passed and any(is_open(exercise, outcome) for outcome in found):
        return "not attempted"
    if passed:
        return "partial"
    return "error" if all(outcome.error and not outcome.own for outcome in found) else "wrong"


def undefined(exercise: Exercise, source: str) -> list[str]:
    """Return the name of the function that a cell does not define, and of up to three that it does."""
    others = [name for name in re.findall(r"^def[ \t]+(\w+)", source, re.M) if name != exercise.function]
    return [exercise.function, *map(shorten, others[:3])]


def notes_of(answer: dict) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return what the harness sent of an answer's cell: the statements skipped, with their errors; names lent."""
    try:
        sent = exchange.parse(answer.get("calls") or "{}")
        skipped = [tuple(map(str, entry)) for entry in sent.get("skipped", []) if len(entry) == 3]
        return skipped, [str(name) for name in sent.get("lent", [])]
    except (ValueError, TypeError, AttributeError):
        return [], []


def first_cause(skipped: list[tuple[str, str, str]], exercise: Exercise) -> tuple[str, str, str]:
    """Return the skipped statement for want of which a function is undefined: that of its own definition, if any."""
    return next((one for one in skipped if re.search(rf"\b{exercise.function}\b", one[0])), skipped[0])


def flags_of(status: str, skipped: list[tuple[str, str, str]], lent: list[str], own: set[str]) -> list[Flag]:
    """Return what the instructor should know of how an answer ran; nothing of one that is right all the same."""
    if status in ("correct", "not attempted"):
        return []
    flags = [Flag("course's own", (", ".join(sorted(own)),))] if own else []
    flags += [Flag("skipped", (shorten(line), shorten(kind))) for line, kind, _ in skipped[:MENTIONED]]
    flags += [Flag("more skipped", (str(len(skipped) - MENTIONED),))] if len(skipped) > MENTIONED else []
    return flags + ([Flag("lent", (", ".join(map(shorten, lent[:10])),))] if lent else [])


def result_of(exercise: Exercise, assignment: Assignment, run: Run, source: str) -> Result:
    """Return what a run says of an exercise and its answer; flags and key are filled in by who knows them."""
    cases, expected = assignment.cases[exercise.id], assignment.expected[exercise.id]
    answer = run.told.get(Cell("answer", exercise.id)) or {"error": None, "printed": ""}
    calls = [told for cell, told in run.told.items() if cell[:2] == ("calls", exercise.id)]
    skipped, lent = notes_of(answer)
    found = outcomes(exercise, cases, expected, run)
    error = error_of(*answer["error"]) if answer["error"] else None
    if error is None and skipped and not found and not run.stopped:
        line, kind, text = first_cause(skipped, exercise)
        error = error_of(kind, text, line)
    status = status_of(exercise, run, list(found.values()), error, len(cases))
    cause = "stopped" if run.stopped and status == run.stopped else ""
    if error is not None:
        cause = "raised"
    elif not found and not run.stopped:
        cause = "undefined" if all(told["calls"] is not None for told in calls) else "silent"
    passed = sum(outcome.passed for outcome in found.values())
    return Result(
        status=status,
        source=source,
        points=None if status == "infrastructure" else earned(exercise, passed, len(cases)),
        possible=float(exercise.points),
        cause=cause,
        detail=shorten(run.why) if cause == "stopped" else "",
        error=error,
        names=undefined(exercise, source) if cause == "undefined" else [],
        calls=[describe_call(exercise, case, expected[i], found.get(i)) for i, case in enumerate(cases)]
        if found and status != "not attempted"
        else [],
        hint=exercise.hint,
        flags=flags_of(status, skipped, lent, {name for outcome in found.values() for name in outcome.own}),
        printed=shorten("".join(str(told["printed"]) for told in [answer, *calls])[-LONGEST:]),
    )


def job(
    assignment: Assignment,
    submission: Submission,
    sources: dict[str, str],
    called: dict[str, list[list[int]]],
    seconds: float,
    only: bool = False,
) -> dict:
    """Return what to run: of each exercise the answer, or our own, and of those in `called` each list of cases in a
    cell. A student's answer has so many seconds for what stands beside its function; or it is the function `only`.
    """
    own = sorted({name for id in called for name in assignment.exercises[id].own})
    first = {"id": Cell("setup", "harness").encode(), "source": f"{HARNESS}\n_harness.stand_in({MODULES}, {own})"}
    cells = [first, *assignment.setup]
    for id, source in sources.items():
        exercise = assignment.exercises[id]
        if source == submission.answers.get(id):
            said = f"{id!r}, {source!r}, globals(), {seconds}, {exercise.function!r}, {only}"
            source = f"{HARNESS}\n_harness.define({said})"
        cells.append({"id": Cell("answer", id).encode(), "source": source})
        for number, cases in enumerate(called.get(id, [])):
            said = f"{id!r}, {exercise.function!r}, globals(), {cases}, {exercise.places}, {exercise.own}"
            cells.append({"id": Cell("calls", id, number).encode(), "source": f"{HARNESS}\n_harness.run({said})"})
    return {
        "cells": cells,
        "inputs": {id: assignment.inputs[id] for id in called},
        "notebook": {"answers": submission.answers, "others": submission.others, "lecture": assignment.sections},
        "parameters": PARAMETERS,
        "seed": assignment.seed % 2**32,
    }


def needed(
    assignment: Assignment, submission: Submission, results: dict[str, Result], id: str, missed: set[str]
) -> dict[str, str]:
    """Return the functions of other exercises that an answer calls, directly or through each other: own or ours.

    They are looked for in the earlier exercises, and among the names that were missed in all.
    """
    order, names = list(assignment.exercises), set(tokens_of(submission.answers[id]))
    found = {}
    for other in reversed(order):
        function = assignment.exercises[other].function
        if other != id and function in (names if order.index(other) < order.index(id) else missed):
            right = other in results and results[other].status == "correct" and other in submission.answers
            found[other] = submission.answers[other] if right else assignment.solutions[other]
            names |= set(tokens_of(found[other]))
    return {other: found[other] for other in order if other in found}


def missed(result: Result) -> set[str]:
    """Return the names that nothing defined."""
    errors = (result.error, *(call.error for call in result.calls))
    return {error.name for error in errors if error is not None and error.name}


def concealed(result: Result, exercise: Exercise) -> Result:
    """Return a result without anything that the kernel could have put into it but how many calls were right.

    For a kernel in which the course's answer to another exercise ran, too, and could be read.
    """
    fixed = {
        exercise.hint,
        *map(of_the_course, exercise.own),
        *(m.message for m in exercise.mistakes),
        *(text for _, text in exercise.errors),
    }

    def bare(error: Error | None) -> Error | None:
        known = error is not None and isinstance(getattr(builtins, error.type, None), type)
        return error and Error(error.type if known else "Exception", "(its text is not shown)", error.line, error.name)

    for call in result.calls:
        call.error = bare(call.error)
        call.got = call.got and NOT_SHOWN
        call.advice = call.advice if call.advice in fixed or not call.advice else f"Hint: {exercise.hint}"
    result.error, result.printed = bare(result.error), ""
    result.flags = [flag for flag in result.flags if flag.kind == "course's own"]  # those of cells quote the kernel
    return result


def in_own_words(result: Result, submission: Submission) -> Result:
    """Return a result in which the lines and names that errors show are those that the student's notebook has."""
    texts = [*submission.answers.values(), *submission.others]
    lines = {line.strip() for text in texts for line in text.splitlines()}
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    for error in (result.error, *(call.error for call in result.calls)):
        if error is not None:
            error.line = error.line if error.line.strip() in lines else ""
            error.name = error.name if error.name in words else ""
    return result


@dataclass(frozen=True)
class Alone:
    """How to run one exercise in a sandbox of its own."""

    assignment: Assignment
    submission: Submission
    grounds: Grounds
    id: str
    end: float  # on the monotonic clock

    def attempt(self, before: dict[str, str], only: bool) -> Result:
        """Return the result after these answers, each call in a cell of its own; what a dead kernel left, once more.

        `only`: no more of the answer's cell than its function needs.
        """
        exercise, source = self.assignment.exercises[self.id], self.submission.answers[self.id]
        called = {self.id: [[i] for i in range(len(self.assignment.cases[self.id]))]}
        beside = self.grounds.budget.exercise_seconds * BESIDE
        task = job(self.assignment, self.submission, before | {self.id: source}, called, beside, only)
        run = self.grounds.run(task, self.end - time.monotonic())
        if run.stopped == "kernel died":  # by the machine, perhaps
            run = self.grounds.run(task, self.end - time.monotonic())
        result = in_own_words(result_of(exercise, self.assignment, run, source), self.submission)
        ours = [other for other in before if before[other] != self.submission.answers.get(other)]
        result = concealed(result, exercise) if ours else result
        result.flags += [Flag("ran after", (other,)) for other in ours]
        return result


def run_alone(alone: Alone, results: dict[str, Result]) -> Result:
    """Return the result of one exercise in a sandbox of its own.

    Where the function of another exercise is missing, it is run first, and all again. Where the cell ends the run
    before its function is called, only what the function needs is run.
    """
    assignment, submission, id = alone.assignment, alone.submission, alone.id
    if time.monotonic() >= alone.end:
        seconds = alone.grounds.budget.total_seconds
        run = Run(stopped="timeout", why=f"the submission's {seconds:g} s were used up before")
        return result_of(assignment.exercises[id], assignment, run, submission.answers[id])
    before, only = needed(assignment, submission, results, id, set()), False
    result = alone.attempt(before, only)
    while time.monotonic() < alone.end:
        more = needed(assignment, submission, results, id, missed(result))
        if result.status == "infrastructure":
            break
        if result.cause in ("stopped", "silent") and not result.calls and not only:
            only = True
        elif more.keys() > before.keys():
            before = more
        else:
            break
        again = alone.attempt(before, only)
        if only and not again.calls:
            break
        result = again
    return result


def without_answer(exercise: Exercise, submission: Submission) -> Result:
    """Return the result of an exercise that the submission doesn't hold."""
    cause = "no notebook" if submission.problem else "no cell"
    return Result("missing", 0.0, float(exercise.points), cause=cause, detail=submission.problem)


def judge(
    assignment: Assignment, submission: Submission, grounds: Grounds, ids: Iterable[str], known: dict[str, Result]
) -> dict[str, Result]:
    """Return the results of these exercises of a submission; `known` are those of its others."""
    start, results = time.monotonic(), {}
    ids = [id for id in assignment.exercises if id in set(ids)]
    attempted = [id for id in ids if id in submission.answers]
    together = Run()
    if attempted:
        called = {id: [list(range(len(assignment.cases[id])))] for id in attempted}
        sources = {id: submission.answers[id] for id in assignment.exercises if id in submission.answers}
        beside = min(JOINT_SECONDS, grounds.budget.exercise_seconds) * BESIDE
        task = job(assignment, submission, sources, called, beside)
        together = grounds.run(task, exercise_seconds=JOINT_SECONDS)
    for id in ids:
        exercise = assignment.exercises[id]
        if id in attempted:
            result = result_of(exercise, assignment, together, submission.answers[id])
            results[id] = in_own_words(result, submission)
        else:
            results[id] = without_answer(exercise, submission)
    again = [id for id in attempted if results[id].status not in ("correct", "not attempted")]
    stopped_in = together.at.exercise if together.at else ""
    for id in sorted(again, key=lambda id: id == stopped_in):  # once more at last
        alone = Alone(assignment, submission, grounds, id, start + grounds.budget.total_seconds)
        results[id] = run_alone(alone, known | results)
    for id, result in results.items():
        result.flags = [*submission.flags.get(id, []), *result.flags]
    return results


def key_of(assignment: Assignment, submission: Submission, budget: Budget, isolation: str, id: str) -> str:
    """Return the hash of all that the result of an exercise depends on."""
    parts = [submission.sha256, id, assignment.seed, assignment.code, asdict(budget), isolation]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
