"""From a submission to what each exercise earns. Expected values are compared here, outside the student's kernel.

All answers run together first, in one kernel, as in the student's own notebook. What is not right then runs again
alone, in a sandbox of its own, with the reference in place of earlier answers that failed and that it calls; so
neither an endless loop nor a patched library reaches another exercise. An answer that was right together stays
right: it gave the expected numbers, and nothing in the sandbox knew them.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from course_tools.grading.book.records import Call, Result
from course_tools.grading.hand_in.submission import Submission, tokens_of
from course_tools.grading.inside import exchange
from course_tools.grading.judge.assignment import PARAMETERS, Assignment
from course_tools.grading.judge.sandbox import Budget, Grounds, Run, exercise_in
from course_utils.calls import Returned
from course_utils.exercises.checking import Case, Exercise, advice_on, earned, fault, furthest, in_words, summary

LONGEST = 2000  # characters of one text in a result
HARNESS = "from course_tools.grading.inside import harness as _harness"
NOT_THERE = (
    "Where answers are graded there are the names that the lecture's set-up imports, those of the answer's own cell, "
    "and the functions of earlier exercises. Define what is missing in the answer's cell."
)
JOINT_SECONDS = 10.0  # for an exercise while all run together; alone it has its whole time
NO_CALLS = "Nothing came back: the answer changes how the notebook runs."


@dataclass
class Outcome:
    """What one call gave: a value and what is wrong with it, or the exception's type, text and line."""

    value: object = None
    advice: str = ""
    error: str = ""
    text: str = ""
    line: str = ""
    passed: bool = False


def shorten(text: str) -> str:
    """Return a text of limited length, without surrogates that no file can hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def sent_calls(text: str, total: int) -> dict[int, dict]:
    """Return call → what a student's kernel sent of it; nothing of what the harness never sends."""
    try:
        sent = exchange.parse(text)
    except ValueError:
        return {}
    sent = sent if isinstance(sent, dict) else {}
    return {number: sent[str(number)] for number in range(total) if isinstance(sent.get(str(number)), dict)}


def returned(sent: dict) -> Returned:
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
            got = returned(sent)
        except ValueError as error:
            return Outcome(error="ValueError", text=shorten(str(error)))
        advice = fault(exercise, case, got, expected)
        return Outcome(value=got.value, advice=advice or "", passed=advice is None)
    error, text, line = (str(sent.get(name, "")) for name in ("error", "text", "line"))
    return Outcome(error=error or "Exception", text=shorten(text), line=shorten(line))


def outcomes(exercise: Exercise, cases: list[Case], expected: list, run: Run) -> dict[int, Outcome]:
    """Return case → outcome, of the calls that came back."""
    found = {}
    for cell, told in run.told.items():
        if cell.startswith(f"calls {exercise.id} ") and told["calls"] is not None:
            for number, sent in sent_calls(told["calls"], len(expected)).items():
                if not sent.get("undefined"):
                    found[number] = outcome_of(sent, exercise, cases[number], expected[number])
    return found


def is_memory(error: str, text: str) -> bool:
    """Tell whether an exception says that memory was refused."""
    return error == "MemoryError" or "allocate memory" in text or "out of memory" in text.lower()


def is_open(exercise: Exercise, outcome: Outcome) -> bool:
    """Tell whether an outcome is the error that stands in an open exercise."""
    return outcome.error == "NotImplementedError" and outcome.text == f"Exercise {exercise.id}"


def describe_call(exercise: Exercise, case: Case, expected, outcome: Outcome | None) -> Call:
    """Return one call in words."""
    got, advice = "", ""
    if outcome is None:
        got = "not called"
    elif outcome.error:
        got = f"{outcome.error}: {outcome.text}" + (f" in the line `{outcome.line}`" if outcome.line else "")
        advice = NOT_THERE if outcome.error == "NameError" else advice_on(exercise, outcome.text)
    else:
        got = summary(outcome.value)
        advice = outcome.advice
        if not outcome.passed:
            got += f"; {far}" if (far := furthest(outcome.value, expected)) and not exercise.accepts else ""
    texts = (case.label, in_words(exercise, case), got, summary(expected))
    return Call(*map(shorten, texts), passed=outcome is not None and outcome.passed, advice=advice)


def status_of(exercise: Exercise, run: Run, found: list[Outcome], error: list, total: int) -> str:
    """Return the status of an exercise from the outcomes of its calls, its cell's error, and how its run ended."""
    passed = sum(outcome.passed for outcome in found)
    if passed == total:
        return "correct"
    if run.stopped:
        return run.stopped
    if is_memory(*error) or any(is_memory(outcome.error, outcome.text) for outcome in found):
        return "memory"
    if not passed and any(is_open(exercise, outcome) for outcome in found):
        return "not attempted"
    if passed:
        return "partial"
    return "error" if all(outcome.error for outcome in found) else "wrong"


def undefined(exercise: Exercise, source: str) -> str:
    """Return what to say to whose cell does not define the exercise's function."""
    others = [f"`{name}`" for name in re.findall(r"^def[ \t]+(\w+)", source, re.M)]
    but = f", but {' and '.join(others[:3])}: was it renamed?" if others else "."
    return f"Your cell defines no function `{exercise.function}`{but}"


def result_of(exercise: Exercise, assignment: Assignment, run: Run, source: str) -> Result:
    """Return what a run says of an exercise and its answer; flags and key are filled in by who knows them."""
    cases, expected = assignment.cases[exercise.id], assignment.expected[exercise.id]
    answer = run.told.get(f"answer {exercise.id}") or {"error": None, "printed": ""}
    calls = [told for cell, told in run.told.items() if cell.startswith(f"calls {exercise.id} ")]
    error = [shorten(str(part)) for part in answer["error"] or ("", "")]
    found = outcomes(exercise, cases, expected, run)
    status = status_of(exercise, run, list(found.values()), error, len(cases))
    message = run.why if run.stopped and status == run.stopped else ""
    if error[0]:
        message = f"Your cell stopped with {error[0]}: {error[1]}"
    elif not found and not run.stopped:
        empty = all(told["calls"] is not None for told in calls)
        message = undefined(exercise, source) if empty else NO_CALLS
    passed = sum(outcome.passed for outcome in found.values())
    return Result(
        status=status,
        source=source,
        points=None if status == "infrastructure" else earned(exercise, passed, len(cases)),
        possible=float(exercise.points),
        message=shorten(message),
        calls=[describe_call(exercise, case, expected[i], found.get(i)) for i, case in enumerate(cases)]
        if found and status != "not attempted"
        else [],
        hint=exercise.hint,
        printed=shorten("".join(str(told["printed"]) for told in [answer, *calls])[-LONGEST:]),
    )


def job(assignment: Assignment, sources: dict[str, str], called: dict[str, list[list[int]]]) -> dict:
    """Return what to run: answers or references by id, and of which of them which cases, each list in a cell."""
    cells = list(assignment.setup)
    for id, source in sources.items():
        cells.append({"id": f"answer {id}", "source": source})
        for number, cases in enumerate(called.get(id, [])):
            exercise = assignment.exercises[id]
            code = f'{HARNESS}\n_harness.run("{id}", "{exercise.function}", globals(), {cases}, {exercise.places})'
            cells.append({"id": f"calls {id} {number}", "source": code})
    inputs = {id: assignment.inputs[id] for id in called}
    return {"cells": cells, "inputs": inputs, "parameters": PARAMETERS, "seed": assignment.seed % 2**32}


def needed(assignment: Assignment, submission: Submission, results: dict[str, Result], id: str) -> dict[str, str]:
    """Return the earlier functions that an answer calls, directly or through each other: the student's own or ours."""
    earlier = list(assignment.exercises)[: list(assignment.exercises).index(id)]
    found, names = {}, set(tokens_of(submission.answers[id]))
    for other in reversed(earlier):
        if assignment.exercises[other].function in names:
            right = other in results and results[other].status == "correct" and other in submission.answers
            found[other] = submission.answers[other] if right else assignment.solutions[other]
            names |= set(tokens_of(found[other]))
    return {other: found[other] for other in earlier if other in found}


def bound(source: str) -> set[str]:
    """Return the names that a cell seems to define or import at its top level."""
    heads = re.findall(r"^(?:async|def|class|import|from)\b.*|^\w[\w, \t]*(?=[:=])", source, re.M)
    return {name for head in heads for name in re.findall(r"\w+", head)}


def lenders(assignment: Assignment, submission: Submission, result: Result, id: str) -> dict[str, str]:
    """Return the student's other cells that bind a name which was not defined in this run, by a name for each.

    They are the answers to earlier exercises, and cells of the student's own that define a function or import: no
    cells that compute, which belong to the lecture.
    """
    text = "\n".join([result.message, *(call.got for call in result.calls)])
    names = set(re.findall(r"NameError: name '(\w+)'", text))
    earlier = list(assignment.exercises)[: list(assignment.exercises).index(id)]
    cells = {f"{other}, lent": submission.answers[other] for other in earlier if other in submission.answers}
    own = [source for source in submission.others if re.search(r"^(?:def|import|from)\b", source, re.M)]
    cells |= {f"own cell {number}, lent": source for number, source in enumerate(own, 1)}
    return {name: source for name, source in cells.items() if names & bound(source)}


def run_alone(
    assignment: Assignment,
    submission: Submission,
    grounds: Grounds,
    results: dict[str, Result],
    id: str,
    seconds: float,
) -> Result:
    """Return the result of one exercise in a sandbox of its own, each call in a cell of its own.

    Where a name is missing, the student's cell that defines it is run first, and all again.
    """
    exercise, source = assignment.exercises[id], submission.answers[id]
    if seconds <= 0:
        run = Run(stopped="timeout", why=f"the submission's {grounds.budget.total_seconds:g} s were used up before")
        return result_of(exercise, assignment, run, source)
    before = needed(assignment, submission, results, id)
    ours = [other for other in before if before[other] != submission.answers.get(other)]
    sources, called = before | {id: source}, {id: [[i] for i in range(len(assignment.cases[id]))]}
    end, lent = time.monotonic() + seconds, {}
    while True:
        run = grounds.run(job(assignment, lent | sources, called), end - time.monotonic())
        if run.stopped == "kernel died":  # by the machine, perhaps
            run = grounds.run(job(assignment, lent | sources, called), end - time.monotonic())
        result = result_of(exercise, assignment, run, source)
        result.flags = [f"ran after the course's answer to {other}" for other in ours]
        result.flags += ["needs another cell of the notebook, which was run before it"] if lent else []
        result.printed = "" if ours else result.printed  # which may be that answer
        more = lenders(assignment, submission, result, id)
        if more.keys() <= lent.keys() or time.monotonic() > end:
            return result
        lent |= more


def without_answer(exercise: Exercise, submission: Submission) -> Result:
    """Return the result of an exercise that the submission doesn't hold."""
    message = submission.problem or "No cell with this exercise was found."
    return Result("missing", 0.0, float(exercise.points), message=message)


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
        together = grounds.run(job(assignment, sources, called), exercise_seconds=JOINT_SECONDS)
    for id in ids:
        exercise = assignment.exercises[id]
        if id in attempted:
            results[id] = result_of(exercise, assignment, together, submission.answers[id])
        else:
            results[id] = without_answer(exercise, submission)
    again = [id for id in attempted if results[id].status not in ("correct", "not attempted")]
    for id in sorted(again, key=lambda id: id == exercise_in(together.at)):  # where it was stopped, once more at last
        seconds = grounds.budget.total_seconds - (time.monotonic() - start)
        results[id] = run_alone(assignment, submission, grounds, known | results, id, seconds)
    for id, result in results.items():
        result.flags = [*submission.flags.get(id, []), *result.flags]
    return results


def key_of(assignment: Assignment, submission: Submission, budget: Budget, isolation: str, id: str) -> str:
    """Return the hash of all that the result of an exercise depends on."""
    parts = [submission.sha256, id, assignment.seed, assignment.code, asdict(budget), isolation]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
