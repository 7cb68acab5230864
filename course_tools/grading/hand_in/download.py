"""The files of a download, a zip or a folder: their names and contents come from strangers.

No path of theirs is ever written to, links are not followed, sizes are limited.
"""

import io
import lzma
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from course_utils.errors import require

LARGEST = 256 * 2**20  # bytes of a file
CLUTTER = ("__MACOSX", ".DS_Store", ".ipynb_checkpoints", ".git", "Thumbs.db", "desktop.ini")
OUTSIDE = "its path leads outside the download"
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)  # while reading a file


@dataclass(frozen=True)
class Member:
    """A file of the download: its path in parts, when it was changed, why it can't be read, else how."""

    parts: tuple[str, ...]
    time: tuple[float, ...]
    fault: str
    read: Callable[[], bytes]
    name: str = ""  # in a zip

    @property
    def path(self) -> str:
        return "/".join(self.parts)


def shown(text: str, most: int = 160) -> str:
    """Return text that is safe to print and to write: one line, no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def parts_of(path: str) -> tuple[str, ...]:
    """Return the parts of a path from a zip or folder, composed as Unicode's NFC so that equal names are equal."""
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", "."))


def is_clutter(parts: Iterable[str]) -> bool:
    """Tell whether a path is what systems leave behind, such as __MACOSX; other hidden files may be a student's."""
    return any(part.startswith("._") or part in CLUTTER for part in parts)


def fault_of(path: str, size: int, kind: int) -> str:
    """Return why a file must not be read, or nothing; `kind` is the type in its mode, 0 if unknown."""
    if stat.S_ISLNK(kind):
        return "a link; links are not followed"
    if kind and not stat.S_ISREG(kind):
        return "not a plain file"
    if ".." in parts_of(path) or path.startswith(("/", "\\")):
        return OUTSIDE
    return f"larger than {LARGEST // 2**20} MiB" if size > LARGEST else ""


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Yield the files in a zip. Raises ``ValueError`` if it is encrypted."""

    def read(info: zipfile.ZipInfo) -> bytes:
        with archive.open(info) as file:
            return file.read(LARGEST + 1)

    for info in archive.infolist():
        if info.filename.endswith(("/", "\\")) or is_clutter(parts_of(info.filename)):
            continue
        require(not info.flag_bits & 1, f"{archive.filename} is encrypted: unpack it, and give the folder")
        fault = fault_of(info.filename, info.file_size, stat.S_IFMT(info.external_attr >> 16))
        yield Member(parts_of(info.filename), info.date_time, fault, lambda info=info: read(info), info.filename)


def folder_members(folder: Path, out: Path) -> Iterator[Member]:
    """Yield the files in a folder, those in `out` left aside."""

    def read(path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)

    def fail(error: OSError):  # a folder that can't be read must not pass for an empty one
        raise error

    for top, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if (Path(top) / name).resolve() != out.resolve())
        for name in sorted(files + links):
            path = Path(top) / name
            inside, status = path.relative_to(folder), path.lstat()
            if is_clutter(inside.parts):
                continue
            fault = fault_of(str(inside), status.st_size, stat.S_IFMT(status.st_mode))
            parts = tuple(unicodedata.normalize("NFC", part) for part in inside.parts)
            yield Member(parts, (status.st_mtime,), fault, lambda path=path: read(path))


@contextmanager
def opened(download: Path, out: Path) -> Iterator[list[Member]]:
    """Open a download for reading. Raises ``ValueError`` or ``FileNotFoundError`` in one line if it can't be."""
    if not download.exists():
        raise FileNotFoundError(f"{download} is not there: give the zip from Canvas or Moodle, or its folder")
    require(out.resolve() != download.resolve(), f"{out} is the download itself: give another folder as --out")
    if download.is_dir():
        yield list(folder_members(download, out))
        return
    try:
        archive = zipfile.ZipFile(download)
    except (*UNREADABLE, UnicodeDecodeError):
        raise ValueError(
            f"{download} is neither a folder nor a zip that can be read: download it again, or unpack it yourself"
        ) from None
    with archive:
        yield list(zip_members(archive))


def unpacked(outer: Member) -> Iterator[Member]:
    """Yield the files in a zip of a download; none if it can't be read. It is opened again for each that is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(outer.read())) as archive:
            inner = list(zip_members(archive))
    except (*UNREADABLE, ValueError):
        return

    def read(name: str) -> bytes:
        with zipfile.ZipFile(io.BytesIO(outer.read())) as archive, archive.open(name) as file:
            return file.read(LARGEST + 1)

    for member in inner:
        yield Member(outer.parts + member.parts, member.time, member.fault, lambda name=member.name: read(name))
