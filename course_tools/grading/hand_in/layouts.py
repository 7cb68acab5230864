"""Whose a file of a download is, by the names that each system gives.

Canvas          all files side by side, ``lovelaceada_LATE_123_4567_hw.ipynb``: ``NAME_LATE_USER_FILE_…``, numbers for
                USER and FILE, ``LATE_`` only where it is; ``anon_ID`` for name and user if marking is anonymous
Moodle          ``Ada Lovelace_123_assignsubmission_file_/hw.ipynb``, or the same in one name
Blackboard      side by side, ``gradebook_COURSE_HW1_alovelace_attempt_2025-03-04-10-00-00_hw.ipynb`` (without
                ``gradebook_COURSE_`` in older ones), and for each attempt a note of the same name, ``….txt``, with
                "Name: Ada Lovelace (alovelace)" in it
Brightspace     a folder for each upload, ``12345-67890 - Ada Lovelace - Mar 4, 2025 1000 AM/hw.ipynb``, or the same in
                one name, ``… AM - hw.ipynb``; the numbers are of the user and the assignment, where they are
Classroom       side by side, ``Ada Lovelace - hw.ipynb``: the copies that Google Classroom makes for each student
other           a folder for each student

A download is of one system, the one whose names fit most of its notebooks: so no student can take another's place by
the name of a file.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from os.path import commonprefix

from course_tools.grading.hand_in.download import OUTSIDE, UNREADABLE, Member
from course_tools.grading.spreadsheets import numeric

CANVAS = re.compile(
    r"(?:(?P<late_anonymous>LATE_)?(?P<anonymous>anon_[^\W_]+)"
    r"|(?P<name>[^\W\d_][\w-]*?)_(?P<late>LATE_)?(?P<user>[1-9]\d*))"
    r"_(?:(?P<version>[1-9]\d*)_(?P<file>.+)|(?P<typed>text|link)\.html)",
    re.S,
)
MOODLE = re.compile(r"(?P<name>.+?)(?:_(?P<user>\d+))?_assignsubmission_(?P<kind>[a-z]+)(?:_(?P<file>.*))?", re.S)
BLACKBOARD = re.compile(
    r"(?P<task>.+?)_(?P<user>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|(?P<note>\.txt))", re.S
)
BRIGHTSPACE = re.compile(
    r"(?P<ids>\d+-\d+) ?- (?P<name>.+?) ?- ?(?P<time>[^-/]*\b\d{4} \d{1,4}(?: ?[AP]M)?)(?: - (?P<file>.+))?", re.S
)
CLASSROOM = re.compile(r"(?P<name>[^\W\d_].*?) - (?P<file>.+)", re.S)
NOTE = re.compile(r"^Name:\s*(.+?)\s*\(([^()\s]+)\)\s*$", re.M)  # in Blackboard's note
SENT = re.compile(r"\.ipynb|\.(?:json|zip|7z|rar|gz|tgz|pdf|docx?|odt)$", re.I)  # perhaps all that somebody handed in
DATES = ("%b %d, %Y", "%B %d, %Y", "%d %b, %Y", "%d %B, %Y", "%d %b %Y", "%d %B %Y")


@dataclass(frozen=True)
class Handed:
    """A file and who handed it in. `person` is the system and the id there, or the name where there is no id."""

    member: Member
    person: tuple[str, str]
    name: str
    file: str  # as the student named it
    late: str = ""  # "yes", "no", or "" where unknown
    order: tuple = ()  # the later version is the greater
    folder: tuple[str, ...] = ()  # within the student's own, if we took it for one
    handed_in: str = ""  # ISO 8601, "" where unknown
    refused: str = ""  # why it is no submission, such as a text that was typed


def is_notebook(parts: tuple[str, ...]) -> bool:
    """Tell whether a path is that of a notebook."""
    return parts[-1].lower().endswith(".ipynb")


def wrappers(paths: list[tuple[str, ...]]) -> int:
    """Return how many outer folders hold the whole download rather than one student's files."""
    common = commonprefix([path[:-1] for path in paths])  # of tuples as of strings
    own = (i for i, part in enumerate(common) if MOODLE.fullmatch(part) or BRIGHTSPACE.fullmatch(part))
    depth = next(own, len(common))
    direct = [path[depth] for path in paths if len(path) == depth + 1]
    folders = {path[depth] for path in paths if len(path) > depth + 1}
    beside = all(map(CANVAS.fullmatch, direct)) or system_of(direct) not in ("", "canvas")
    whole = beside if direct else len(folders) > 1
    return depth if whole or depth < len(common) else 0


def canvas_folders(paths: list[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the folders whose notebooks all have names from Canvas, of two users or more: sections, as it were."""
    matches = defaultdict(list)
    for path in paths:
        matches[path[:-1]].append(CANVAS.fullmatch(path[-1]))
    users = {folder: {m["user"] or m["anonymous"] for m in found} for folder, found in matches.items() if all(found)}
    return {folder for folder in users if len(users[folder]) > 1}


def person_in_name(pattern: re.Pattern, file: str) -> str | None:
    """Return whom a file's name names, by one system's pattern."""
    match = pattern.fullmatch(file)
    groups = match.groupdict() if match else {}
    return groups.get("user") or groups.get("anonymous") or groups.get("name")


def system_of(files: Iterable[str]) -> str:
    """Return the system that gave names to files which lie side by side: who fits most of them, and all or most.

    Where two fit equally many, the one that tells more people apart.
    """
    files, patterns = list(files), {"canvas": CANVAS, "blackboard": BLACKBOARD, "brightspace": BRIGHTSPACE}
    found = {}
    for system, pattern in (patterns | {"classroom": CLASSROOM}).items():
        people = [person for file in files if (person := person_in_name(pattern, file))]
        if people and (system == "canvas" or 2 * len(people) > len(files)):
            found[system] = (len(people), len(set(people)))
    return max(found, key=lambda system: found[system], default="")


def by_time(member: Member, file: str) -> tuple:
    """Return the order of versions that have no number: by time, then by name, with 10 after 9."""
    return member.time, numeric(file), file


def from_moodle(member: Member, depth: int) -> Handed | None:
    """Return who handed in a file by a name from Moodle, None without one.

    A name without an id counts only outermost, where no student has named it.
    """
    for i, part in enumerate(member.parts):
        match = MOODLE.fullmatch(part)
        if match and (match["user"] or i <= depth):
            person = ("moodle", match["user"]) if match["user"] else ("name", match["name"])
            file = (match["file"] or part) if member.parts[i + 1 :] == () else member.parts[-1]
            refused = "" if match["kind"] == "file" else f"no file, but what Moodle calls {match['kind']}"
            return Handed(member, person, match["name"], file, order=by_time(member, file), refused=refused)
    return None


def from_canvas(member: Member) -> Handed | None:
    """Return who handed in a file by a name from Canvas, None without one."""
    match = CANVAS.fullmatch(member.parts[-1])
    if match is None:
        return None
    person = ("name", match["anonymous"]) if match["anonymous"] else ("canvas", match["user"])
    name, late = match["name"] or match["anonymous"], "yes" if match["late"] or match["late_anonymous"] else "no"
    if match["typed"]:
        refused = f"no file, but a {match['typed']} typed into Canvas"
        return Handed(member, person, name, member.parts[-1], late, (0, 0), refused=refused)
    again = re.search(r"-(\d+)\.[^.]*$", match["file"])
    order = (int(match["version"]), int(again[1]) if again else 0)
    return Handed(member, person, name, match["file"], late, order)


def from_blackboard(member: Member) -> Handed | None:
    """Return who handed in a file by a name from Blackboard, None without one."""
    match = BLACKBOARD.fullmatch(member.parts[-1])
    if match is None:
        return None
    day, clock = match["time"][:10], match["time"][11:].replace("-", ":")
    file = match["file"] or member.parts[-1]
    came = f"{day}T{clock}"
    refused = "no file, but Blackboard's note on it" if match["note"] else ""
    return Handed(member, ("login", match["user"]), match["user"], file, "", (came, file), (), came, refused)


def moment(text: str) -> str:
    """Return a time as Brightspace writes it, "Mar 4, 2025 1000 AM", as ISO 8601; nothing for another form."""
    match = re.fullmatch(r"\s*(.+?) (\d{1,4})(?: ?([AP]M))?", text)
    for date in DATES if match else ():
        clock, half = match[2].zfill(4), match[3]
        try:
            value = datetime.strptime(f"{match[1]} {clock} {half or ''}", f"{date} {'%I%M %p' if half else '%H%M '}")
        except ValueError:
            continue
        return value.isoformat(timespec="minutes")
    return ""


def from_brightspace(member: Member, depth: int) -> Handed | None:
    """Return who handed in a file by a name from Brightspace, outermost, None without one."""
    at = min(depth, len(member.parts) - 1)
    match = BRIGHTSPACE.fullmatch(member.parts[at])
    if match is None or (at == len(member.parts) - 1 and not match["file"]):
        return None
    file, came = match["file"] or member.parts[-1], moment(match["time"])
    person = ("name", f"{match['name']} {match['ids']}")  # the ids go again where the name is one student's
    return Handed(member, person, match["name"], file, "", (came, by_time(member, file)), (), came)


def from_classroom(member: Member) -> Handed | None:
    """Return who handed in a file by a name from Google Classroom, None without one."""
    match = CLASSROOM.fullmatch(member.parts[-1])
    if match is None:
        return None
    return Handed(member, ("name", match["name"]), match["name"], match["file"], order=by_time(member, match["file"]))


def from_folder(member: Member, depth: int) -> Handed | str:
    """Return who handed in a file by the student's folder, or why it can't be placed."""
    name, file = member.parts[depth], member.parts[-1]
    if member.parts[depth:] == (file,):
        return "its name does not tell whose it is"
    return Handed(member, ("name", name), name, file, order=by_time(member, file), folder=member.parts[depth + 1 : -1])


def with_names(found: list[Handed]) -> list[Handed]:
    """Return files of Blackboard with the names in its notes in place of the users' short ones."""
    names = {}
    for handed in found:
        if handed.person[0] == "login" and handed.refused and not handed.member.fault:
            try:
                told = NOTE.search(handed.member.read()[:4096].decode("utf-8", "replace"))
            except UNREADABLE:
                continue
            if told and told[2] == handed.person[1]:
                names[told[2]] = told[1]
    return [replace(h, name=names[h.person[1]]) if h.person[1] in names else h for h in found]


def without_ids(found: list[Handed]) -> list[Handed]:
    """Return files of Brightspace with the name alone for the person, where no two students have that name.

    Of the two numbers, those that are equal for everybody are the assignment's.
    """
    ids = {h.person[1]: h.person[1].rsplit(" ", 1)[1].split("-") for h in found}
    telling = [i for i in (0, 1) if len({pair[i] for pair in ids.values()}) > 1]
    people = defaultdict(set)
    for h in found:
        people[h.name].add(tuple(ids[h.person[1]][i] for i in telling[:1]))
    alone = {name for name, pairs in people.items() if len(pairs) == 1}
    return [replace(h, person=("name", h.name)) if h.name in alone else replace(h, name=h.person[1]) for h in found]


def whose(member: Member, depth: int, system: str, section: bool) -> Handed | str:
    """Return who handed in a file, or why nobody knows; `section`: its folder is one of Canvas's."""
    handed = from_moodle(member, depth) or from_brightspace(member, depth)
    beside = len(member.parts) <= depth + 1
    if handed is None and ((beside and system == "canvas") or section):
        handed = from_canvas(member)
    elif handed is None and beside and system == "blackboard":
        handed = from_blackboard(member)
    elif handed is None and beside and system == "classroom":
        handed = from_classroom(member)
    return handed or from_folder(member, min(depth, len(member.parts) - 1))


def place(members: list[Member]) -> tuple[dict[tuple[str, str], list[Handed]], list[tuple[str, str]]]:
    """Return each person's files, and (path, reason) of those that are nobody's or can't be read."""
    notebooks = [member.parts for member in members if is_notebook(member.parts)] or [m.parts for m in members]
    sent = [member.parts for member in members if SENT.search(member.parts[-1])]
    depth, sections = wrappers(notebooks) or wrappers(sent), canvas_folders(notebooks)
    flat = [m.parts[-1] for m in members if len(m.parts) == depth + 1]
    system = system_of([file for file in flat if is_notebook((file,))] or flat)
    found, unplaced = [], []
    for member in members:
        outside = member.fault == OUTSIDE
        handed = OUTSIDE if outside else whose(member, depth, system, member.parts[:-1] in sections)
        if isinstance(handed, Handed):
            found.append(handed)
        reason = handed if isinstance(handed, str) else handed.refused
        if member.fault and (reason or is_notebook(member.parts)):
            reason = member.fault
        if reason:
            unplaced.append((member.path, reason))
    ours = [h for h in found if BRIGHTSPACE.fullmatch(h.member.parts[min(depth, len(h.member.parts) - 1)])]
    if ours:
        found = [h for h in found if h not in ours] + without_ids(ours)
        unplaced = [(path, reason) for path, reason in unplaced if not path.endswith("index.html")]
    placed = defaultdict(list)
    for handed in with_names(found):
        placed[handed.person].append(handed)
    files = {h.person for h in found if not h.refused}
    notes = {h.member.path for h in found if h.refused and h.person[0] == "login" and h.person in files}
    return placed, [(path, reason) for path, reason in unplaced if path not in notes]
