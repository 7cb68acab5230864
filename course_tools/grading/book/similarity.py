"""Pairs of answers that look copied from each other: a hint for a person to look at, never a proof.

An answer counts as the set of its runs of six tokens. Names that a student chooses are numbered within each run, so
renaming changes nothing; comments, docstrings, layout and the stub's own runs are dropped. A run weighs
log((1 + n) / df), where df of the class's n answers to that exercise have it, divided by the weight of a run that only
two have. A pair's evidence is the product of its weights, summed over the runs that both have: a run that nobody else
has counts 1, one that everybody writes about 0.
"""

import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from course_tools.grading.book.records import Record

RUN = 6  # tokens
COSINE = 0.8  # the least that two answers to one exercise have to agree to be named …
EVIDENCE = 12.0  # … and the least they have to share, in runs that nobody else has
LONGEST = 8_000  # characters of an answer that are looked at
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE, tokenize.ENDMARKER}
KEPT = set(keyword.kwlist) | set(dir(builtins))  # names that are not the student's own
PIECE = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|\*\*|//|->|\.\.\.|[-+*/%@&|^<>=!:]=|[^\s\w;]")


@dataclass(frozen=True)
class Alike:
    """Two answers to one exercise: the cosine of their weighted runs, and how many rare runs they share."""

    exercise: str
    cosine: float
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


def python_tokens(source: str) -> Iterator[str]:
    """Yield the tokens of Python code without comments, layout and docstrings. Raises what ``tokenize`` raises."""
    statement_begins = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lone_string = token.type == tokenize.STRING and statement_begins
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            statement_begins = token.type in LAYOUT
        if token.type not in LAYOUT and token.string != ";" and not lone_string:
            yield token.string


def tokens(source: str) -> list[str]:
    """Return the tokens of an answer; of one that is not Python, words and signs outside comments."""
    source = source[:LONGEST]
    try:
        return list(python_tokens(source))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return PIECE.findall(re.sub(r"#.*|\"\"\"[\s\S]*?(\"\"\"|\Z)|'''[\s\S]*?('''|\Z)", "", source))


def is_own(token: str, before: str) -> bool:
    """Tell whether a token is a name that the student could choose: no keyword, no built-in, no attribute."""
    return token.isidentifier() and token not in KEPT and before != "."


def runs(source: str) -> set[str]:
    """Return the runs of six tokens in an answer, own names numbered by their first place in the run."""
    words = tokens(source)
    own = [is_own(word, before) for word, before in zip(words, ["", *words], strict=False)]
    found = set()
    for at in range(len(words) - RUN + 1):
        numbers: dict[str, int] = {}
        window = zip(words[at : at + RUN], own[at : at + RUN], strict=True)
        found.add(" ".join(f"${numbers.setdefault(w, len(numbers))}" if mine else w for w, mine in window))
    return found


def products(documents: Sequence[set[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return evidence and cosine of every two answers (n, n), each given as its runs, of which it has at least one."""
    vectoriser = TfidfVectorizer(analyzer=lambda document: document, binary=True, norm=None, use_idf=False)
    present = vectoriser.fit_transform(documents)  # (n, runs)
    count = len(documents)
    rarity = np.log((1 + count) / np.asarray(present.sum(axis=0))) / np.log((1 + count) / 2)  # sklearn's is never 0
    weights = present.multiply(rarity).tocsr()
    unit = normalize(weights)
    return (weights @ weights.T).toarray(), (unit @ unit.T).toarray()


def alike(sources: Mapping[str, str], exercise: str, stub: str = "") -> Iterator[tuple[tuple[str, str], Alike]]:
    """Yield ((student, student), how alike) for one exercise's sources by student."""
    dropped = runs(stub)
    documents = {student: runs(source) - dropped for student, source in sources.items()}
    students = [student for student, document in documents.items() if document]
    if len(students) < 2:
        return
    evidence, cosine = products([documents[student] for student in students])
    for i, j in np.argwhere(np.triu((evidence >= EVIDENCE) & (cosine >= COSINE), k=1)):
        pair = students[i], students[j]
        both = sources[pair[0]], sources[pair[1]]
        yield pair, Alike(exercise, float(min(cosine[i, j], 1.0)), float(evidence[i, j]), both)


def similar_pairs(records: Sequence[Record], stubs: Mapping[str, str] | None = None) -> list[Pair]:
    """Return the pairs of students with suspiciously similar answers, most evidence first.

    `stubs`: by exercise, what the lecture gave to everybody.
    """
    found: dict[tuple[str, str], list[Alike]] = {}
    for exercise in {id: None for record in records for id in record.exercises}:
        with_it = [record for record in records if exercise in record.exercises]
        sources = {record.student: record.exercises[exercise].source for record in with_it}
        for students, answer in alike(sources, exercise, (stubs or {}).get(exercise, "")):
            found.setdefault(students, []).append(answer)
    pairs = [Pair(students, tuple(answers)) for students, answers in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.evidence, pair.students))
