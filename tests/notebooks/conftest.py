"""A repository with one small lecture, for the tests of the pipeline."""

from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("sample.md").read_text("utf-8")
PYPROJECT = '[tool.course]\nrepository = "{repository}"\ntag = "{tag}"\n'


@pytest.fixture
def sample() -> str:
    """Return the sample lecture's source."""
    return SAMPLE


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a source as lecture 07_sample into a temporary repository and returns its root."""

    def make(source: str = SAMPLE, repository: str = "", tag: str = "") -> Path:
        (tmp_path / "solutions").mkdir(exist_ok=True)
        (tmp_path / "solutions" / "07_sample.md").write_text(source, "utf-8")
        (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(repository=repository, tag=tag), "utf-8")
        return tmp_path

    return make
