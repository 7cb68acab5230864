"""The warm parent and its kernels: what does not start in the parent, what each kernel has anew, what is shared."""

from contextlib import closing

import psutil
import pytest

from course_tools.grading.inside.job import Cell
from course_tools.grading.judge import sandbox
from course_tools.grading.judge.sandbox import Budget, Grounds

pytestmark = pytest.mark.sandbox

DRAW = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(()).item())"


@pytest.fixture(scope="module")
def grounds(warm):
    with closing(Grounds(True, Budget())) as grounds:
        yield grounds


def printed(grounds: Grounds, code: str, seed: int = 0) -> str:
    """Return what a cell prints in a kernel of its own."""
    cells = [{"id": "setup 1", "source": "import torch"}, {"id": "answer 1", "source": code}]
    run = grounds.run({"cells": cells, "inputs": {}, "parameters": {}, "seed": seed})
    told = run.told.get(Cell("answer", "1"))
    assert run.stopped == "" and told and told["error"] is None, run
    return told["printed"]


def test_every_kernel_draws_from_its_seed(grounds):
    first = printed(grounds, DRAW, seed=1)
    assert printed(grounds, DRAW, seed=1) == first
    assert not set(printed(grounds, DRAW, seed=2).split()) & set(first.split())


def test_the_parent_has_no_threads_and_no_cuda(grounds):
    assert printed(grounds, "print(torch.get_num_threads(), torch.cuda.is_initialized())") == "1 False\n"
    assert psutil.Process(grounds.zygote.process.pid).num_threads() == 1


def test_nothing_is_left_in_the_folder_for_the_next(grounds):
    assert printed(grounds, "import pathlib; print(pathlib.Path('note').write_text('hello'))") == "5\n"
    assert printed(grounds, "import pathlib; print(pathlib.Path('note').exists())") == "False\n"


def test_a_dead_parent_is_started_again(grounds):
    before = grounds.zygote.process.pid
    psutil.Process(before).kill()
    grounds.zygote.process.wait()
    assert printed(grounds, "print(1)") == "1\n"
    assert grounds.zygote.process.pid != before


def test_the_course_is_seen_but_not_as_a_whole_clone():
    paths = sandbox.readable()
    assert any(sandbox.PACKAGE.is_relative_to(path) for path in paths)
    assert str(sandbox.PACKAGE.parent) not in paths and "/" not in paths
