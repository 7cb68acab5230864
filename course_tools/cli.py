"""The console command `course`. Each command imports what it needs when it is called, so that help comes at once."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from course_utils.errors import require


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def notebooks(args: argparse.Namespace) -> int:
    """Make the notebooks from their sources and run what changed; with --check only tell what is stale."""
    from course_tools import notebooks

    if args.check:
        stale = notebooks.check()
        if stale:
            print("\n".join(["Not what the source makes:", *(f"  {path}" for path in stale), "Run: make notebooks"]))
        return 1 if stale else 0
    written = notebooks.make(run_all=args.all, force=args.force)
    print("\n".join(f"wrote {path.relative_to(notebooks.ROOT)}" for path in written) or "All notebooks are up to date.")
    return 0


def split_parameter(text: str) -> tuple[str, str]:
    """Return (name, value) of "name=value"; raise ``ValueError`` for anything else."""
    name, sign, value = text.partition("=")
    if not (sign and name):
        raise ValueError(f"parameter {text!r} is not of the form name=value, such as seed=1")
    return name, value


def run(args: argparse.Namespace) -> int:
    """Run one lecture from top to bottom, with other parameters if you like."""
    from course_tools.notebooks import ROOT
    from course_tools.notebooks import run as run_lecture

    parameters = dict(split_parameter(text) for text in args.parameters)
    print(f"executed: {run_lecture(args.lecture, parameters, args.out or ROOT / 'build')}")
    return 0


def lectures(args: argparse.Namespace) -> int:
    """Run every lecture with its default parameters into build/, and print a table of seconds."""
    from course_tools.notebooks import ROOT, NotebookError, all_lectures
    from course_tools.notebooks import run as run_lecture

    table = []
    for lecture in all_lectures():
        start, outcome = time.perf_counter(), "ok"
        try:
            run_lecture(lecture.name, {}, ROOT / "build")
        except (NotebookError, FileNotFoundError) as error:
            outcome = f"failed: {str(error).splitlines()[0]}"
        table.append((lecture.name, time.perf_counter() - start, outcome))
    print("\n".join(f"{name:32} {seconds:6.0f} s  {outcome}" for name, seconds, outcome in table))
    return 0 if all(outcome == "ok" for *_, outcome in table) else 1


def doctor(args: argparse.Namespace) -> int:
    """Print one screen on versions, device, memory, data and widgets, and how to mend what is wrong."""
    from course_tools import doctor

    return doctor.main()


def train(args: argparse.Namespace) -> int:
    """Train one of the networks that the package ships, or go on where that was stopped, and write its card."""
    from course_tools import recipes
    from course_utils import networks

    card = recipes.train(args.name, args.data_root, args.device, args.out or networks.FOLDER, args.seed)
    print(networks.describe(card))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Compute a shipped network's metrics again, beside its card; exit 1 if one differs by over 1 %% and 0.05."""
    from course_tools import recipes
    from course_utils import networks

    claimed = networks.read_card(args.name)["metrics"]
    measured = recipes.evaluate(args.name, args.data_root, args.device)
    for metric, value in measured.items():
        print(f"{metric:60} card {claimed.get(metric)}   now {value}")
    same = claimed.keys() == measured.keys() and all(
        abs(measured[m] - claimed[m]) <= max(0.05, 0.01 * abs(claimed[m])) for m in claimed
    )
    return 0 if same else 1


def checkpoints(args: argparse.Namespace) -> int:
    """Train all networks that the package ships, one after the other."""
    from course_tools import recipes
    from course_utils import networks

    for name in recipes.RECIPES:
        print(networks.describe(recipes.train(name, args.data_root, args.device)), end="\n\n")
    return 0


def release(args: argparse.Namespace) -> int:
    """Copy a lecture's notebook, or all, into a folder, ready to hand out."""
    from course_tools.grading.hand_in.release import release, release_all

    require(args.all != bool(args.lecture), 'give one lecture, such as "02", or --all')
    for path in release_all(args.out) if args.all else [release(args.lecture, args.out)]:
        print(path)
    return 0


def collect(args: argparse.Namespace) -> int:
    """Sort what Canvas or Moodle exported into a folder of submissions, the last version of each student."""
    from course_tools.grading.hand_in.collect import collect, describe

    print(describe(collect(args.download, args.out, args.lecture)))
    return 0


def grading_options(args: argparse.Namespace):
    """Return the ``Options`` of a command line."""
    from course_tools.grading.judge.grade import Options, budget_of

    return Options(args.seed, not args.unsandboxed, budget_of(args.seconds, args.memory), args.rerun, args.exercise)


def grade(args: argparse.Namespace) -> int:
    """Grade a folder of submissions; what an earlier run has graded is kept. Exit 1 if an exercise has no grade."""
    from course_tools.grading.book import gradebook
    from course_tools.grading.book.tables import counted
    from course_tools.grading.judge.engines import Limits
    from course_tools.grading.judge.grade import grade_all, incomplete, locked, write_changes

    jobs = args.jobs if args.jobs is not None else os.cpu_count() or 1
    require(jobs >= 1, f"--jobs {jobs}: at least 1 is needed")
    limits = Limits(parallel=args.jobs or Limits.parallel, chunk=args.chunk, memory=f"{args.memory + 2048}M")
    where = {"engine": args.engine, "limits": limits, "scheduler": args.scheduler}
    options = grading_options(args)
    found, changed, failed = grade_all(args.submissions, args.lecture, args.out, options, jobs, **where)
    for student, why in failed.items():
        print(f"NOT GRADED {student}: {why}")
    for student, exercise, before, after in changed:
        print(f"changed: {student} {exercise} {before} -> {after}")
    write_changes(args.out, changed)
    if found:
        students = args.submissions / "students.csv"
        with locked(args.out):
            gradebook.publish(args.out, students if students.exists() else None)
    if without := incomplete(found):
        print(f"Without a grade, by a failure of the infrastructure: {', '.join(without)}; grade again for these.")
    stamp = "" if options.sandboxed else " UNSANDBOXED: the code ran with all rights of its user."
    counts = f"{counted(len(found), 'submission')}, {counted(len(changed), 'grade')} changed."
    print(f"{counts} Begin with {args.out / 'instructor.html'}.{stamp}")
    return 1 if failed or without else 0


def grade_one(args: argparse.Namespace) -> int:
    """Grade one submission into OUT/results/STUDENT.json; a result that still holds is kept."""
    from course_tools.grading.judge.grade import grade_one

    student = args.student or args.submission.stem
    record = grade_one(args.submission, student, args.lecture, args.out, grading_options(args))
    print(f"{student}: {record.points:g} points" + ("" if record.complete else ", incomplete"))
    return 0


def gradebook(args: argparse.Namespace) -> int:
    """Make tables and pages from the results again, with the points of written answers; runs no code."""
    from course_tools.grading.book import gradebook
    from course_tools.grading.judge.grade import locked

    require(args.results.is_dir(), f"no results in {args.results}: give what was --out of course grade")
    with locked(args.results):
        paths = gradebook.publish(args.results, args.students, args.written)
    print(f"{len(paths)} files. Begin with {args.results / 'instructor.html'}.")
    return 0


def add_grading(add: Callable[[Callable], Parser]) -> None:
    """Add the commands for instructors."""
    sub = add(release)
    sub.add_argument("lecture", nargs="?", help='number or name, such as "02"')
    sub.add_argument("--all", action="store_true", help="every lecture")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to hand out")
    sub = add(collect)
    sub.add_argument("download", type=Path, help="the .zip that Canvas or Moodle gave, or its folder")
    sub.add_argument("--lecture", help="needed where the files' names tell of several")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of submissions")
    for command in (grade, grade_one):
        sub = add(command)
        if command is grade:
            sub.add_argument("submissions", type=Path, help="a folder with STUDENT/NAME.ipynb or STUDENT.ipynb")
            sub.add_argument("--jobs", type=int, metavar="N", help="how many at a time; as many as there are CPUs")
            sub.add_argument("--engine", choices=("slurm", "dask"), help="grade on a cluster instead of here")
            sub.add_argument("--scheduler", metavar="ADDR", help="of Dask, such as tcp://host:8786")
            sub.add_argument("--chunk", type=int, default=1, metavar="N", help="submissions in each task of Slurm")
        else:
            sub.add_argument("submission", type=Path, help="the student's notebook")
            sub.add_argument("--student", help="whose it is; else the file's name tells")
        sub.add_argument("--lecture", required=True, help='number or name, such as "02"')
        sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
        sub.add_argument(
            "--seed", type=int, metavar="S", required=command is grade_one, help="of the inputs; drawn at the first run"
        )
        sub.add_argument("--exercise", metavar="N.M", help="grade this one again, keep all others")
        sub.add_argument("--rerun", choices=("none", "failed", "all"), default="none", help="what to run again")
        sub.add_argument(
            "--seconds", type=float, default=60, help="for each exercise (60); a submission has 8 times it"
        )
        sub.add_argument("--memory", type=int, default=2048, metavar="MIB", help="for a submission (2048)")
        sub.add_argument("--unsandboxed", action="store_true", help="without isolation, for code that you trust")
    sub = add(gradebook)
    sub.add_argument("results", type=Path, metavar="OUT", help="what was --out of course grade")
    sub.add_argument("--students", type=Path, metavar="CSV", help="names and ids, as course collect writes them")
    sub.add_argument("--written", type=Path, metavar="CSV", help="written.csv with points, in place of the one in OUT")


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog="course", description="Work with the course: notebooks, lectures, environment.")
    parser.add_argument("--version", action="version", version=f"course {version('course-utils')}")
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(command: Callable[[argparse.Namespace], int]) -> Parser:
        subparser = commands.add_parser(
            command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__
        )
        subparser.set_defaults(command=command)
        return subparser

    sub = add(notebooks)
    sub.add_argument("--all", action="store_true", help="run every notebook, changed or not")
    sub.add_argument("--check", action="store_true", help="write nothing; list what is stale, exit 1 if anything is")
    sub.add_argument("--force", action="store_true", help="overwrite notebooks that were edited by hand")
    sub = add(run)
    sub.add_argument("lecture", help='number or name, such as "01"')
    sub.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="name=value", help="such as -p seed=1"
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder for the executed notebook; build/ if not given")
    for command in (lectures, doctor):
        add(command)
    for command in (train, evaluate, checkpoints):
        sub = add(command)
        if command is not checkpoints:
            sub.add_argument("name", help="the checkpoint, such as vae_mlp_20")
        if command is train:
            sub.add_argument(
                "--seed", type=int, metavar="S", help="another seed than the recipe's, together with --out"
            )
            sub.add_argument("--out", type=Path, metavar="DIR", help="where weights and card go")
        sub.add_argument("--device", default="auto", help='"auto", "cpu", "cuda" or "mps"')
        sub.add_argument("--data-root", type=Path, metavar="DIR", help="where the data lie; else $COURSE_DATA")
    add_grading(add)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 1 if something failed, 2 after one line on stderr for bad input."""
    args = make_parser().parse_args(argv)
    try:
        return args.command(args)
    except (ValueError, OSError) as error:  # no such file, a full disk, no permission
        print(f"course: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"course: {error}; install what the notebooks need: pip install -e '.[lab,test]'", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from course_tools.notebooks import NotebookError

        if not isinstance(error, NotebookError):
            raise
        print(f"course: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: interrupted; the same command again goes on with what is missing", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
