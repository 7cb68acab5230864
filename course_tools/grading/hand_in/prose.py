"""Written answers: every word of the student's own at the question, wherever it was put, and the pictures in it.

A person marks these, so too much text costs a glance and too little costs a grade: nothing is found only where the
student has written nothing. Handed-out lines are left out.
"""

import ast
import hashlib
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from nbformat import NotebookNode

from course_tools.grading.hand_in.grammar import parsed

LONGEST = 200_000  # characters of an answer
LARGEST = 12 * 2**20  # characters of its pictures together
LOOKED_AT = 200  # comments of a cell that are told from code
SAYING = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)  # statements by which something may be said
SHOWING = {"answer", "print", "display", "Markdown", "HTML"}  # names by which words are shown
ELSEWHERE = "(Nothing stands at the question. From elsewhere in the notebook:)"
NAMED = re.compile(r"^[ \t]*(?=\w*answer)\w++[ \t]*(?::[^=\n]*)?\+?=(?!=)", re.M)
INLINE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")
ATTACHED = re.compile(r"attachment:([^\s)\"'>]+)")
WORDY = re.compile(r"\b(?:[^\W_]++(?:['’][^\W_]++)?+[ ,;:.]++){7}[^\W_]")  # eight words in a row: hardly code
FEW = re.compile(r"\b[^\W\d_]++(?:['’][^\W_]++)?+[ ,;:.]++[^\W_]++(?:['’][^\W_]++)?+[ ,;:.]++[^\W_]")  # three words
COMMAND = re.compile(r"^[ \t]*[!%]\S*[ \t]*(.*)", re.M)  # of IPython, such as ``!echo "…"``
SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass
class Answer:
    """What a student wrote to a question, and its pictures as data URIs: "[picture 1, …]" stands for the first."""

    text: str
    pictures: list[str] = field(default_factory=list)


# The words in code --------------------------------------------------------------------------------------------------


def string_of(node: ast.AST, known: dict[str, str]) -> str:
    """Return the text that an expression makes, as far as it is written there; `known` are variables' texts."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return known.get(name, "")
        case ast.JoinedStr(values=parts):
            return "".join(string_of(part, known) for part in parts)
        case ast.FormattedValue(value=value):
            return string_of(value, known) or f"{{{ast.unparse(value)}}}"
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return string_of(left, known) + string_of(right, known)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"), args=[parts]):
            return glue.join(filter(None, (string_of(part, known) for part in ast.iter_child_nodes(parts))))
    return "\n".join(filter(None, (string_of(child, known) for child in ast.iter_child_nodes(node))))


def texts_of(tree: ast.Module) -> list[str]:
    """Return the texts in a cell's statements, in order; one that is part of another is left out."""
    known: dict[str, str] = {}
    texts: list[str] = []
    for node in tree.body:
        value = getattr(node, "value", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and value is not None:
            text = string_of(value, known)
            if isinstance(node, ast.AugAssign):
                text = string_of(node.target, known) + text
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    known[target.id] = text
        else:
            text = string_of(node, known)
        text = text.strip()
        if not any(text in other for other in [*texts, ""]):
            texts = [*(other for other in texts if other not in text), text]
    return texts


def comments_of(source: str, aside: bool = False) -> str:
    """Return the comments of a cell, without their signs; as far as it can be read. `aside`: those at the left edge."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and not (aside and token.start[1]):
                found.append(token.string.lstrip("#").strip())
    except (tokenize.TokenError, SyntaxError, ValueError):  # up to where it breaks off
        pass
    return "\n".join(filter(None, found))


def computes(tree: ast.Module) -> bool:
    """Tell whether a cell says something by numbers or names, such as ``answer = 3 * kl``, rather than by words."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    values = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    numbers = any(not isinstance(value, str) and value is not None and value is not ... for value in values)
    return bool(names - SHOWING) or numbers


def written_text(source: str) -> str:
    """Return the words in a cell of code that holds an answer: its texts and comments; all of it if it is no code."""
    tree = parsed(source)
    if tree is None:  # words without quotes, or quotes that were never closed
        bare = re.sub(r"^[ \t]*answer\w*[ \t]*\+?=\s*(?:[a-zA-Z]{0,2}(?:\"\"\"|'''|\"|'))?", "", source, flags=re.M)
        return re.sub(r"(?:\"\"\"|''')", "", bare).strip().removesuffix('"').removesuffix("'").strip()
    said = (words.strip(" \"'") for words in COMMAND.findall(source) if WORDY.search(words))
    return "\n\n".join(filter(None, [*texts_of(tree), *said, comments_of(source)]))


# The words in a notebook --------------------------------------------------------------------------------------------


def pictures_in(cell: NotebookNode, text: str, found: Answer) -> str:
    """Return a cell's text with "[picture 1, …]" for each picture that was pasted into it; add these to an answer."""

    def keep(uri: str, otherwise: str) -> str:
        if sum(map(len, found.pictures)) + len(uri) > LARGEST:
            return otherwise
        found.pictures.append(uri)
        return f"[picture {len(found.pictures)}, {hashlib.sha256(uri.encode()).hexdigest()[:6]}]"

    def attached(match: re.Match) -> str:
        bundle = cell.attachments.get(match[1]) or cell.attachments.get(unquote(match[1]))
        for kind, data in bundle.items() if isinstance(bundle, dict) else ():
            data = "".join(data) if isinstance(data, list) else data
            if kind in SHOWN and isinstance(data, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]+", data):
                return keep(f"data:{kind};base64,{''.join(data.split())}", "[a picture too large to show]")
        return match[0]

    text = INLINE.sub(lambda match: keep("".join(match[0].split()), "[a picture too large to show]"), text)
    text = ATTACHED.sub(attached, text)
    text = re.sub(r"!\[[^\]]*\]\((\[[^\]]+\])(?:\s+\"[^\"]*\")?\)", r"\1", text)
    return re.sub(r"<img\b[^>]*?(\[(?:picture|a picture)[^\]]+\])[^>]*>", r"\1", text)


@dataclass(frozen=True)
class Handout:
    """What everybody was given: cells' sources and their lines."""

    sources: frozenset[str]
    lines: frozenset[str]

    @classmethod
    def of(cls, given: frozenset[str]) -> "Handout":
        lines = {line.strip() for source in given for line in source.splitlines()}
        return cls(given, frozenset(lines - {""}))

    def own(self, source: str) -> str:
        """Return what of a cell of text was not handed out: all, or the new lines of an edited one."""
        lines = [line for line in source.splitlines() if line.strip()]
        new = [line for line in lines if line.strip() not in self.lines]
        if not new or source.strip() in self.sources:
            return ""
        if 2 * len(new) > len(lines) and not any(self.begun(line) for line in new):
            return source.strip()
        return "\n".join(line[len(self.begun(line)) :].strip() for line in new)

    def begun(self, line: str) -> str:
        """Return the handed-out line that this one goes on from, if it does."""
        heads = (given for given in self.lines if len(given) > 30 and line.startswith(given))
        return max(heads, key=len, default="")


def words_of(cell: NotebookNode, handout: Handout, placeholder: str, found: Answer, own: bool = False) -> str:
    """Return the student's own words in a cell; its pictures go into the answer. `own`: it is the answer's cell."""
    source = cell.source
    if cell.cell_type == "code" or NAMED.search(source):
        text = "" if source.strip() in handout.sources else written_text(source)
        tree = None if text else parsed(source)
        if own and tree is not None and computes(tree):
            text = source
    else:
        text = handout.own(source)
    lines = [line for line in text.splitlines() if line.strip() != placeholder.strip()]
    return pictures_in(cell, "\n".join(lines).strip(), found)


def own_places(id: str, cells: Sequence[NotebookNode]) -> list[int]:
    """Return where an answer's own cells stand: by the number in their metadata, by their id, else by ``answer =``."""
    name = f"exercise-{id.replace('.', '-')}"
    tagged = [i for i, cell in enumerate(cells) if cell.metadata.get("course", {}).get("written") == id]
    tagged = tagged or [i for i, cell in enumerate(cells) if cell.get("id") == name]
    return tagged or [i for i, cell in enumerate(cells) if NAMED.match(cell.source.lstrip())]


def headings(id: str, cells: Sequence[NotebookNode]) -> list[int]:
    """Return where a question's heading stands, such as "### Exercise 1.8"."""
    heading = re.compile(rf"^#+.*\bExercise\b.*?\b{re.escape(id)}\b", re.M)
    return [i for i, cell in enumerate(cells) if cell.cell_type != "code" and heading.search(cell.source)]


def around(id: str, cells: Sequence[NotebookNode], handout: Handout) -> list[int]:
    """Return the places that belong to a question: from the student's cells above it to the next heading or exercise.

    Nothing if neither question nor answer is there.
    """
    places = headings(id, cells) + own_places(id, cells)

    def given(i: int) -> bool:
        return cells[i].source.strip() in handout.sources

    def ends(i: int) -> bool:
        cell = cells[i]
        heading = cell.cell_type == "markdown" and re.search(r"^#+ ", cell.source, re.M)
        return i not in places and (bool(heading and given(i)) or "exercise" in cell.metadata.get("course", {}))

    found = set(places)
    for place in places:
        above, below = place - 1, place + 1
        while above >= 0 and not given(above) and not ends(above):
            found.add(above)
            above -= 1
        while below < len(cells) and not ends(below):
            found.add(below)
            below += 1
    return sorted(found)


def is_code(comment: str) -> bool:
    """Tell whether a comment is code that was put aside."""
    return parsed(comment) is not None or parsed(f"{comment} pass") is not None


def only_says(source: str) -> bool:
    """Tell whether a cell of code does nothing but say at least three words in a row."""
    tree = parsed(source)
    if tree is None:
        return bool(FEW.search(source)) and not re.search(r"[()\[\]=_]", source)
    if computes(tree):
        return False
    comments = comments_of(source).splitlines()[:LOOKED_AT]
    said = any(FEW.search(line) and not is_code(line) for line in comments)
    return said or any(map(FEW.search, texts_of(tree)))


def is_prose(cell: NotebookNode) -> bool:
    """Tell whether a cell far from the question may hold its answer: text, or code that is mostly or only words."""
    if cell.cell_type != "code":
        return True
    words = written_text(cell.source)
    wordy = WORDY.search(words) and 2 * len(words) > len(cell.source)
    return bool(NAMED.search(cell.source) or wordy or only_says(cell.source))


def words_aside(source: str, handout: Handout) -> str:
    """Return the sentences at the left edge of a cell of code that were not handed out, if any stand there."""
    tree = parsed(source)
    body = [node for node in tree.body if isinstance(node, SAYING)] if tree else []
    given = {line.lstrip("# ").rstrip() for line in handout.lines}
    own = [node for node in body if ast.get_source_segment(source, node) not in given]
    comments = [line for line in comments_of(source, aside=True).splitlines() if line not in given]
    text = "\n".join(filter(None, [*texts_of(ast.Module(own, [])), *comments]))
    return text if WORDY.search(text) else ""


def words_afar(cell: NotebookNode, handout: Handout, placeholder: str, found: Answer) -> str:
    """Return what in a cell far from the question may be its answer."""
    exercise = "exercise" in cell.metadata.get("course", {})
    if is_prose(cell) and not exercise:
        return words_of(cell, handout, placeholder, found)
    return words_aside(cell.source, handout) if cell.cell_type == "code" else ""


def read_answer(id: str, placeholder: str, given: frozenset[str], cells: Sequence[NotebookNode]) -> Answer | None:
    """Return a written answer: empty if the student wrote nothing, None if there is no cell of it either."""
    handout = Handout.of(given)
    near, found = around(id, cells, handout), Answer("")
    own = own_places(id, cells)
    texts = [words_of(cells[i], handout, placeholder, found, i in own) for i in near]
    if not any(texts):
        far = [cell for cell in cells if cell.source.strip() not in given]
        texts = list(filter(None, (words_afar(cell, handout, placeholder, found) for cell in far)))
        if not texts:
            return found if own else None
        texts.insert(0, ELSEWHERE)
    found.text = "\n\n".join(filter(None, texts))[:LONGEST]
    return found


def read_answers(wanted: dict[str, str], given: frozenset[str], cells: Sequence[NotebookNode]) -> Iterator[tuple]:
    """Yield (id, answer) of the written answers that were found; `wanted` maps their ids to the placeholders."""
    for id, placeholder in wanted.items():
        answer = read_answer(id, placeholder, given, cells)
        if answer is not None:
            yield id, answer
