"""Files that are written whole or not at all."""

import os
from pathlib import Path


def atomically(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, to the disk, and move it there: half a file never replaces a good one.

    Text is written in UTF-8 as it is. Raises ``OSError`` where the disk is full or the folder read-only; the file that
    was there stays, and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
