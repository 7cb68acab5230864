"""Pairs of answers that look copied from each other: a hint for a person to look at, never a proof.

An answer counts as the set of its runs of six tokens within a line. Names that a student chooses are numbered within
each run, so renaming changes nothing; comments, docstrings, layout, lines that nothing uses and the stub's own runs
are dropped, before an answer is cut to the length that is looked at. A run weighs log((1 + n) / df), where df of the
n answers to that exercise have it, divided by the weight of a run that only two have. A pair's evidence is the
product of its weights, summed over the runs that both have: a run that nobody else has counts 1, one that everybody
writes about 0. Their likeness is the share that this is of the smaller answer's own evidence, so that whoever adds to
a copy hides nothing. An answer is compared with the class, and with what stands beside it: the course's own
solutions and functions, an earlier class.
"""

import builtins
import io
import keyword
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from course_tools.grading.book.records import Record

RUN = 6  # tokens
LIKENESS = 0.8  # the least that two answers to one exercise have to agree to be named …
EVIDENCE = 12.0  # … and the least they have to share, in runs that nobody else has
LONGEST = 2_000  # lines of an answer, and tokens of a line, that are looked at
PASSES = 3  # over an answer's lines, for those that nothing uses
SETS = (":", "=", "+=", "-=", "*=", "/=", "**=", "//=", "%=", "@=", "|=", "&=", "^=")
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
KEPT = set(keyword.kwlist) | set(dir(builtins))  # names that are not the student's own
PIECE = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|\*\*|//|->|\.\.\.|[-+*/%@&|^<>=!:]=|[^\s\w;]")


@dataclass(frozen=True)
class Alike:
    """Two answers to one exercise: which share of the smaller is in the other, and how many rare runs they share."""

    exercise: str
    likeness: float
    evidence: float
    sources: tuple[str, str]


@dataclass(frozen=True)
class Pair:
    """Two students and their suspiciously similar answers."""

    students: tuple[str, str]
    alike: tuple[Alike, ...]

    @property
    def evidence(self) -> float:
        """How many runs of tokens, weighted by rarity, the two share over all exercises that are alike."""
        return sum(answer.evidence for answer in self.alike)


class Line(NamedTuple):
    """One line of code: its tokens, and whether it stands within something, such as a function."""

    words: list[str]
    inner: bool


def python_lines(source: str) -> Iterator[Line]:
    """Yield the lines of Python code without comments and layout. Raises what ``tokenize`` raises."""
    words: list[str] = []
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        depth += {tokenize.INDENT: 1, tokenize.DEDENT: -1}.get(token.type, 0)
        if token.type == tokenize.NEWLINE or token.string == ";":
            yield Line(words, depth > 0)
            words = []
        elif token.type not in LAYOUT:
            words.append(token.string)
    yield Line(words, depth > 0)


def lines_of(source: str) -> list[Line]:
    """Return the lines of an answer; of one that is not Python, words and signs outside comments."""
    try:
        return list(python_lines(source))
    except (tokenize.TokenError, SyntaxError, ValueError):
        bare = re.sub(r"\"\"\"[\s\S]*?(\"\"\"|\Z)|\'\'\'[\s\S]*?(\'\'\'|\Z)|#.*", "", source)
        return [Line(PIECE.findall(line), line[:1].isspace()) for line in bare.splitlines()]


def targets(line: Line) -> set[str]:
    """Return the names that a line within a function does nothing but set, a and b of "a, b = x"; of others, none."""
    words = line.words
    if "lambda" in words or not line.inner:  # an answer itself may be one
        return set()
    if words[:1] in (["import"], ["from"]):
        return {words[-1]}
    at = next((at for at, word in enumerate(words) if word in SETS), None)
    left = words[:at]
    names = {word for word in left if word.isidentifier()}
    called = any(a in names and b == "(" for a, b in pairwise(left))
    known = at is not None and not called and not KEPT & names and all(word in names or word in "(),*" for word in left)
    return names if known and "=" in "".join(words[at:]) else set()


def says_nothing(words: Sequence[str]) -> bool:
    """Tell whether a line changes nothing that can be told from others': no own name in it, ``x = x``, a print."""
    if not any(word.isidentifier() and word not in KEPT for word in words):
        return True
    return (len(words) == 3 and words[1] == "=" and words[0] == words[2]) or list(words[:2]) == ["print", "("]


def reads(line: Line) -> set[str]:
    """Return the names in a line that it does not only set, attributes aside."""
    pairs = zip(line.words, ["", *line.words], strict=False)
    return {word for word, before in pairs if word.isidentifier() and before != "."} - targets(line)


def used_lines(source: str) -> list[Line]:
    """Return the lines of an answer without those that say nothing, or set only names that no line reads."""
    lines = [line for line in lines_of(source) if not says_nothing(line.words)]
    uses = Counter(name for line in lines for name in reads(line))
    for _ in range(PASSES):  # backwards, so that what only an unused line reads goes with it
        kept = []
        for line in reversed(lines):
            mine = targets(line)
            if mine and not any(uses[name] for name in mine):
                uses.subtract(reads(line))
            else:
                kept.append(line)
        lines = kept[::-1]
    return lines


def is_own(token: str, before: str) -> bool:
    """Tell whether a token is a name that the student could choose: no keyword, no built-in, no attribute."""
    return token.isidentifier() and token not in KEPT and before != "."


def runs(source: str) -> set[str]:
    """Return the runs of six tokens within the lines of an answer, own names numbered by their first place in the run.

    A shorter line is a run of its own. Runs do not go from line to line: what stands between two hides nothing.
    """
    found: set[str] = set()
    for line in used_lines(source)[:LONGEST]:
        words = line.words[:LONGEST]
        own = [is_own(word, before) for word, before in zip(words, ["", *words], strict=False)]
        for at in range(max(len(words) - RUN, 0) + 1):
            numbers: dict[str, int] = {}
            window = zip(words[at : at + RUN], own[at : at + RUN], strict=True)
            found.add(" ".join(f"${numbers.setdefault(w, len(numbers))}" if mine else w for w, mine in window))
    return found


def products(documents: Sequence[set[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return evidence and likeness of every two answers (n, n), each given as its runs, at least one."""
    vectoriser = TfidfVectorizer(analyzer=lambda document: document, binary=True, norm=None, use_idf=False)
    present = vectoriser.fit_transform(documents)  # (n, runs)
    count = len(documents)
    rarity = np.log((1 + count) / np.asarray(present.sum(axis=0))) / np.log((1 + count) / 2)  # sklearn's is never 0
    weights = present.multiply(rarity).tocsr()
    evidence = (weights @ weights.T).toarray()
    shared = present.multiply(np.minimum(rarity, 1.0)).tocsr()  # a run that only one has is no rarer than one of two
    common = (shared @ shared.T).toarray()
    own = common.diagonal()
    return evidence, common / np.maximum(np.minimum(own[:, None], own[None, :]), 1e-12)


def alike(
    sources: Mapping[str, str], exercise: str, stub: str = "", beside: Mapping[str, str] | None = None
) -> Iterator[tuple[tuple[str, str], Alike]]:
    """Yield ((student, student or name beside), how alike) for one exercise's sources by student."""
    dropped, others = runs(stub), list((beside or {}).items())
    everything = [*sources.items(), *others]
    documents = [runs(source) - dropped for _, source in everything]
    there = [at for at, document in enumerate(documents) if document]
    if len(there) < 2:
        return
    evidence, likeness = products([documents[at] for at in there])
    for i, j in np.argwhere(np.triu((evidence >= EVIDENCE) & (likeness >= LIKENESS), k=1)):
        (name, source), (other, text) = everything[there[i]], everything[there[j]]
        if there[i] < len(sources):  # two that both stand beside the class are not its matter
            yield (name, other), Alike(exercise, float(min(likeness[i, j], 1.0)), float(evidence[i, j]), (source, text))


def similar_pairs(
    records: Sequence[Record],
    stubs: Mapping[str, str] | None = None,
    beside: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Pair]:
    """Return the pairs of students with suspiciously similar answers, most evidence first.

    `stubs`: by exercise, what the lecture gave to everybody. `beside`: others to compare with, by name and exercise;
    no student's name is one of theirs.
    """
    found: dict[tuple[str, str], list[Alike]] = {}
    for exercise in {id: None for record in records for id in record.exercises}:
        with_it = [record for record in records if exercise in record.exercises]
        sources = {record.student: record.exercises[exercise].source for record in with_it}
        others = {name: own[exercise] for name, own in (beside or {}).items() if exercise in own}
        for students, answer in alike(sources, exercise, (stubs or {}).get(exercise, ""), others):
            found.setdefault(students, []).append(answer)
    pairs = [Pair(students, tuple(answers)) for students, answers in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.evidence, pair.students))
