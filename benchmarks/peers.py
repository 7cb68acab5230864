"""What the benchmarks against other libraries share: their packages, pinned, in build/, and tasks done in turns."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from course_tools import bootstrap

REST = 0.2  # seconds; OpenBLAS's threads need about 0.1


def install(name: str, pins: Sequence[str]) -> None:
    """Put the pinned packages into build/bench-`name`, once, and onto the path, behind all that the course has.

    If they cannot be had, the program ends with the reason on stderr and status 2.
    """
    site, text = bootstrap.ROOT / "build" / f"bench-{name}", "\n".join(pins)
    beside = site.with_suffix(".new")
    if not (site / "PINS").exists() or (site / "PINS").read_text("utf-8") != text:
        shutil.rmtree(beside, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--timeout=15", "--no-deps"]
        done = subprocess.run([*pip, f"--target={beside}", *pins], capture_output=True, encoding="utf-8")
        if done.returncode:
            print(f"{done.stderr}{name} cannot be put into {site}. {bootstrap.diagnose(done.stderr)}", file=sys.stderr)
            sys.exit(2)
        (beside / "PINS").write_text(text, "utf-8")
        shutil.rmtree(site, ignore_errors=True)
        beside.rename(site)
    sys.path.append(str(site))


def turns(sides: Sequence[Callable], repetitions: int, threads: int) -> tuple[list[list[float]], list[list]]:
    """Let the sides do their task in turns, each turn in another order; return seconds and results of each, in order.

    One turn before is not counted. With one thread they are CPU seconds: what else the machine does counts less. With
    several they are seconds of the clock, and before each the threads of the one before, which wait busily for more
    work, are given time to fall asleep.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds, results = [[] for _ in sides], [[] for _ in sides]
    for turn in range(repetitions + 1):
        for i in sorted(range(len(sides)), key=lambda i, turn=turn: (i + turn) % len(sides)):
            time.sleep(REST if threads > 1 else 0)
            start = clock()
            result = sides[i]()
            if turn:
                seconds[i].append(clock() - start)
                results[i].append(result)
    return seconds, results


def ratio(seconds: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of seconds / others, turn by turn, and the range that 80 % of the turns lie in."""
    ratios = [a / b for a, b in zip(seconds, others, strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    return statistics.median(ratios), tenths[0], tenths[-1]
