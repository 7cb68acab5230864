"""Files that are written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path


def atomically(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, to the disk, and move it there: half a file never replaces a good one.

    Text is written in UTF-8 as it is. Raises ``OSError`` where the disk is full or the folder read-only; the file that
    was there stays, and nothing is left beside it.
    """
    together({path: content})


def together(files: Mapping[Path, bytes | str]) -> None:
    """Write several files as ``atomically`` does one: none takes its place before all are on the disk."""
    beside = {path: path.with_name(f"{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside[path], "wb") as file:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for path, written in beside.items():
            os.replace(written, path)
    finally:
        for written in beside.values():
            written.unlink(missing_ok=True)
