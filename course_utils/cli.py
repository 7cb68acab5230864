"""The console command `course`. Each command imports what it needs when it is called, so that help comes at once."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def notebooks(args: argparse.Namespace) -> int:
    """Make the notebooks from their sources and run what changed; with --check only tell what is stale."""
    from course_utils import notebooks

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
    from course_utils.notebooks import ROOT
    from course_utils.notebooks import run as run_lecture

    parameters = dict(split_parameter(text) for text in args.parameters)
    print(f"executed: {run_lecture(args.lecture, parameters, args.out or ROOT / 'build')}")
    return 0


def lectures(args: argparse.Namespace) -> int:
    """Run every lecture with its default parameters into build/, and print a table of seconds."""
    from course_utils.notebooks import ROOT, NotebookError, all_lectures
    from course_utils.notebooks import run as run_lecture

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
    from course_utils import doctor

    return doctor.main()


def train(args: argparse.Namespace) -> int:
    """Train one of the networks that the package ships, or go on where that was stopped, and write its card."""
    from course_utils import cards, recipes

    card = recipes.train(args.name, args.data_root, args.device, args.out or cards.FOLDER, args.seed)
    print(recipes.describe(card))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Compute a shipped network's metrics again, beside its card; exit 1 if one differs by over 1 % and 0.05."""
    from course_utils import cards, recipes

    claimed = cards.read_card(args.name)["metrics"]
    measured = recipes.evaluate(args.name, args.data_root, args.device)
    for metric, value in measured.items():
        print(f"{metric:60} card {claimed.get(metric)}   now {value}")
    same = claimed.keys() == measured.keys() and all(
        abs(measured[m] - claimed[m]) <= max(0.05, 0.01 * abs(claimed[m])) for m in claimed
    )
    return 0 if same else 1


def checkpoints(args: argparse.Namespace) -> int:
    """Train all networks that the package ships, one after the other."""
    from course_utils import recipes

    for name in recipes.RECIPES:
        print(recipes.describe(recipes.train(name, args.data_root, args.device)), end="\n\n")
    return 0


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog="course", description="Work with the course: notebooks, lectures, environment.")
    parser.add_argument("--version", action="version", version=f"course {version('course-utils')}")
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(command: Callable[[argparse.Namespace], int]) -> Parser:
        subparser = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 1 if something failed, 2 after one line on stderr for bad input."""
    args = make_parser().parse_args(argv)
    try:
        return args.command(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"course: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"course: {error}; install what the notebooks need: pip install -e '.[lab,test]'", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from course_utils.notebooks import NotebookError

        if not isinstance(error, NotebookError):
            raise
        print(f"course: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: interrupted", file=sys.stderr)
        return 130
