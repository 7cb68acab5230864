"""The console command `course`. Each command imports what it needs when it is called, so that help comes at once."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

try:
    import click
except ModuleNotFoundError:
    sys.exit("course: click is missing; install what the notebooks need: pip install -e '.[lab,test]'")

from course_utils.errors import require


class InOrder(click.Group):
    """A group whose help lists the commands as they stand below, and that leaves Ctrl-C to ``main``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> int:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would print an empty line and forget what was said
            raise Stopped(error) from None
        except EOFError as error:  # click takes it for Ctrl-D
            raise RuntimeError(f"a file ends early: {error}") from error


class Stopped(Exception):
    """Ctrl-C, and what it said."""


FOLDER = click.Path(path_type=Path)
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(package_name="course-utils", prog_name="course", message="%(prog)s %(version)s")
def course() -> None:
    """Work with the course: notebooks, lectures, environment."""


# Notebooks and lectures ----------------------------------------------------------------------------------------------


@course.command()
@click.option("--all", "run_all", is_flag=True, help="Run every notebook, changed or not.")
@click.option("--check", is_flag=True, help="Write nothing; list what is stale, exit 1 if anything is.")
@click.option("--force", is_flag=True, help="Overwrite notebooks that were edited by hand.")
def notebooks(run_all: bool, check: bool, force: bool) -> int:
    """Make the notebooks from their sources and run what changed."""
    from course_tools import notebooks

    if check:
        stale = notebooks.check()
        if stale:
            print("\n".join(["Not what the source makes:", *(f"  {path}" for path in stale), "Run: make notebooks"]))
        return FAILED if stale else 0
    written = notebooks.make(run_all=run_all, force=force)
    print("\n".join(f"wrote {path.relative_to(notebooks.ROOT)}" for path in written) or "All notebooks are up to date.")
    return 0


@course.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the bundle is stale.")
def widgets(check: bool) -> int:
    """Bundle the widgets' code and take their pictures.

    The bundle takes node and npm, the pictures Chromium; students need neither, since both are committed.
    """
    from course_tools import widgets

    if not widgets.bundle(check):
        return FAILED
    for path in [] if check else widgets.stills():
        print(f"wrote {path}")
    return 0


def split_parameter(text: str) -> tuple[str, str]:
    """Return (name, value) of "name=value"; raise ``ValueError`` for anything else."""
    name, sign, value = text.partition("=")
    require(bool(sign and name), f"parameter {text!r} is not of the form name=value, such as seed=1")
    return name, value


PARAMETERS = click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE", help="Such as -p seed=1.")


@course.command()
@click.argument("lecture")
@PARAMETERS
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder for the executed notebook; build/ if not given.")
def run(lecture: str, parameters: Sequence[str], out: Path | None) -> int:
    """Run one lecture, with other parameters if you like.

    LECTURE is its number or name, such as 01.
    """
    from course_tools.notebooks import ROOT
    from course_tools.notebooks import run as run_lecture

    values = dict(split_parameter(text) for text in parameters)
    print(f"executed: {run_lecture(lecture, values, out or ROOT / 'build')}")
    return 0


@course.command()
def lectures() -> int:
    """Run every lecture into build/ and tell the seconds."""
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
    return 0 if all(outcome == "ok" for *_, outcome in table) else FAILED


@course.command()
@click.option(
    "--setting", "settings", multiple=True, metavar="NAME", help="native, default, avx2, two-threads; else all."
)
@click.option("--lecture", "lectures", multiple=True, metavar="NN", help="Number or name; else all.")
@click.option("--budget", metavar="SHARE", help="Of the trainings, such as 0.1; compared with a native run.")
@click.option("--torch", "release", metavar="RELEASE", help="oldest, newest or such as 2.7.1; made in build/.")
def foreign(settings: Sequence[str], lectures: Sequence[str], budget: str | None, release: str | None) -> int:
    """Run lectures as other processors would, tell what differs.

    Each lecture runs under each setting: instruction sets, numbers of threads. For every cell it tells what printed
    text is not the stored one, and what stopped. Exit 1 if a cell stopped, or printed something else that the tests
    compare.
    """
    from course_tools import foreign, notebooks

    chosen = [foreign.choose_setting(name) for name in settings] or list(foreign.SETTINGS)
    found = [notebooks.find_lecture(which) for which in lectures] or notebooks.all_lectures()
    values = {} if budget is None else {"budget": notebooks.parse_value(budget, "budget")}
    if release:
        again = [f"--setting={name}" for name in chosen] + [f"--lecture={lecture.name}" for lecture in found]
        return foreign.under_release(release, again + ([f"--budget={budget}"] if budget else []))
    table = []
    for name, setting, findings in foreign.foreign(found, chosen, values):
        print(foreign.describe(name, setting, findings), flush=True)
        table.append((name, setting, findings))
    print("\n".join(["", *(f"{name:28} {setting:12} {foreign.verdict(found)}" for name, setting, found in table)]))
    return FAILED if any(finding.matters for *_, found in table for finding in found) else 0


@course.command()
@click.argument("notebook")
@click.option("--to", "kind", default="pdf", metavar="FORMAT", help="pdf, which needs Chromium or Chrome, or html.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder for the file; build/ if not given.")
@click.option("--mathjax", metavar="URL", help="Where MathJax 2 lies, for formulas without a network.")
def export(notebook: str, kind: str, out: Path | None, mathjax: str | None) -> int:
    """Write a notebook as PDF or HTML, as it was saved.

    NOTEBOOK is a path, such as that of your own copy with your answers, or a lecture's number. Every picture carries
    its alternative text. Formulas are set by MathJax, from the network.
    """
    from course_tools.export import export

    print(export(notebook, kind, out, mathjax))
    return 0


@course.command()
def update() -> int:
    """Fetch the course's new version and keep your answers.

    Lectures that you worked on are kept whole in answers/; the answers are put into the new notebooks.
    """
    from course_tools.update import update

    print("\n".join(update()))
    return 0


@course.command()
def doctor() -> int:
    """Tell what is wrong with the installation, and how to mend it.

    One screen on versions, device, memory, data and widgets.
    """
    from course_tools import doctor

    return doctor.main()


# Trained networks ----------------------------------------------------------------------------------------------------

DEVICE = click.option("--device", default="auto", metavar="NAME", help='"auto", "cpu", "cuda" or "mps".')
DATA_ROOT = click.option("--data-root", type=FOLDER, metavar="DIR", help="Where the data lie; else $COURSE_DATA.")


@course.command()
@click.argument("name")
@click.option("--seed", type=int, metavar="S", help="Another seed than the recipe's, together with --out.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Where weights and card go.")
@DEVICE
@DATA_ROOT
def train(name: str, seed: int | None, out: Path | None, device: str, data_root: Path | None) -> int:
    """Train a network that the package ships, and write its card.

    NAME is the checkpoint's, such as vae_mlp_20. A training that was stopped goes on where it was.
    """
    from course_tools import recipes
    from course_utils import networks

    card = recipes.train(name, data_root, device, out or networks.FOLDER, seed)
    print(networks.describe(card))
    return 0


@course.command()
@click.argument("name")
@DEVICE
@DATA_ROOT
def evaluate(name: str, device: str, data_root: Path | None) -> int:
    """Compute a shipped network's metrics again.

    They are printed beside those on its card. Exit 1 if one differs by over 1 % and 0.05.
    """
    from course_tools import recipes
    from course_utils import networks

    claimed = networks.read_card(name)["metrics"]
    measured = recipes.evaluate(name, data_root, device)
    for metric, value in measured.items():
        print(f"{metric:60} card {claimed.get(metric)}   now {value}")
    same = claimed.keys() == measured.keys() and all(
        abs(measured[m] - claimed[m]) <= max(0.05, 0.01 * abs(claimed[m])) for m in claimed
    )
    return 0 if same else FAILED


@course.command()
@DEVICE
@DATA_ROOT
def checkpoints(device: str, data_root: Path | None) -> int:
    """Train all networks that the package ships."""
    from course_tools import recipes
    from course_utils import networks

    for name in recipes.RECIPES:
        print(networks.describe(recipes.train(name, data_root, device)), end="\n\n")
    return 0


# For instructors -----------------------------------------------------------------------------------------------------

LECTURE = click.option("--lecture", required=True, metavar="NN", help='Number or name, such as "02".')
RESULTS = click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Where the results go.")


def how_to_grade(command: Callable) -> Callable:
    """Add the options that say how answers are run."""
    options = [
        click.option("--exercise", metavar="N.M", help="Grade this one again, keep all others."),
        click.option("--rerun", type=click.Choice(("none", "failed", "all")), default="none", help="What to repeat."),
        click.option("--seconds", type=float, default=60, help="For each exercise (60); a submission has 8 times it."),
        click.option("--memory", type=int, default=2048, metavar="MIB", help="For a submission (2048)."),
        click.option("--unsandboxed", is_flag=True, help="Without isolation, for code that you trust."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def options_of(seed: int | None, exercise: str | None, rerun: str, seconds: float, memory: int, unsandboxed: bool):
    """Return the ``Options`` of a command line."""
    from course_tools.grading.judge.grade import Options, budget_of

    return Options(seed, not unsandboxed, budget_of(seconds, memory), rerun, exercise)


@course.command()
@click.argument("lecture", required=False)
@click.option("--all", "every", is_flag=True, help="Every lecture.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="The folder to hand out.")
def release(lecture: str | None, every: bool, out: Path) -> int:
    """Copy a lecture's notebook, or all, into a folder to hand out.

    LECTURE is its number or name, such as 02.
    """
    from course_tools.grading.hand_in.release import release, release_all

    require(every != bool(lecture), 'give one lecture, such as "02", or --all')
    for path in release_all(out) if every else [release(lecture, out)]:
        print(path)
    return 0


@course.command()
@click.argument("download", type=FOLDER)
@click.option("--lecture", metavar="NN", help="Needed where the files' names tell of several.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="The folder of submissions.")
@click.option("--roster", type=FOLDER, metavar="CSV", help="The class, as Canvas or Moodle export it: who is missing?")
def collect(download: Path, lecture: str | None, out: Path, roster: Path | None) -> int:
    """Sort what a learning platform exported into submissions.

    DOWNLOAD is the .zip that Canvas, Moodle, Blackboard, Brightspace or Google Classroom gave, or its folder. Of each
    student the last version is taken.
    """
    from course_tools.grading.hand_in.collect import collect, describe

    print(describe(collect(download, out, lecture, roster=roster)))
    return 0


@course.command()
@click.argument("submissions", type=FOLDER)
@click.option("--jobs", type=int, metavar="N", help="How many at a time; as many as there are CPUs.")
@click.option("--engine", type=click.Choice(("slurm", "dask")), help="Grade on a cluster instead of here.")
@click.option("--scheduler", metavar="ADDR", help="Of Dask, such as tcp://host:8786.")
@click.option("--chunk", type=int, default=1, metavar="N", help="Submissions in each task of Slurm.")
@LECTURE
@RESULTS
@click.option("--seed", type=int, metavar="S", help="Of the inputs; drawn at the first run.")
@click.option("--student", metavar="KEY", help="Grade this one again, with the seed it had.")
@how_to_grade
def grade(
    submissions: Path,
    jobs: int | None,
    engine: str | None,
    scheduler: str | None,
    chunk: int,
    lecture: str,
    out: Path,
    seed: int | None,
    student: str | None,
    **how,
) -> int:
    """Grade a folder of submissions.

    SUBMISSIONS holds STUDENT/NAME.ipynb or STUDENT.ipynb. What an earlier run has graded is kept. Exit 1 if an exercise
    has no grade.
    """
    from course_tools.grading.judge.engines import Limits
    from course_tools.grading.run import grade_folder
    from course_tools.grading.visible import visible

    require(jobs is None or jobs >= 1, f"--jobs {jobs}: at least 1 is needed")
    require(not student or seed is None, "--student grades with the seed it had: leave --seed out")
    limits = Limits(parallel=jobs or Limits.parallel, chunk=chunk, memory=f"{how['memory'] + 2048}M")
    options, here = replace(options_of(seed, **how), student=student), jobs or os.cpu_count() or 1
    outcome = grade_folder(submissions, lecture, out, options, here, engine, limits, scheduler)
    print(visible("\n".join(outcome.lines)))
    return 0 if outcome.complete else FAILED


@course.command()
@click.argument("submission", type=FOLDER)
@click.option("--student", help="Whose it is; else the file's name tells.")
@LECTURE
@RESULTS
@click.option("--seed", type=int, metavar="S", required=True, help="Of the inputs.")
@how_to_grade
def grade_one(submission: Path, student: str | None, lecture: str, out: Path, seed: int, **how) -> int:
    """Grade one submission.

    SUBMISSION is the student's notebook; the result goes into OUT/results/STUDENT.json. One that still holds is kept.
    """
    from course_tools.grading.judge.grade import grade_one

    student = student or submission.stem
    record = grade_one(submission, student, lecture, out, options_of(seed, **how))
    print(f"{student}: {record.points:g} points" + ("" if record.complete else ", incomplete"))
    return 0


@course.command()
@click.argument("results", type=FOLDER, metavar="OUT")
@click.option("--students", type=FOLDER, metavar="CSV", help="Names and ids, as course collect writes them.")
@click.option("--written", type=FOLDER, multiple=True, metavar="CSV", help="Marks saved by a marking page; several.")
@click.option("--due", metavar="TIME", help='Such as 2026-11-30T23:59; "none" forgets it.')
@click.option("--penalty", type=float, metavar="PERCENT", help="Of the possible points, for each day begun.")
@click.option("--at-most", type=float, metavar="PERCENT", help="That lateness costs (100).")
@click.option("--beside", type=FOLDER, multiple=True, metavar="DIR", help="An earlier class to compare with; several.")
def gradebook(
    results: Path,
    students: Path | None,
    written: Sequence[Path],
    due: str | None,
    penalty: float | None,
    at_most: float | None,
    beside: Sequence[Path],
) -> int:
    """Make tables and pages again, with written answers.

    OUT was --out of course grade. Due date, penalty and earlier classes are kept for the next time. No code is run.
    """
    from course_tools.grading.book import gradebook
    from course_tools.grading.book.settings import changed, read_settings
    from course_tools.grading.judge.grade import locked

    require(results.is_dir(), f"no results in {results}: give what was --out of course grade")
    given = due is not None or penalty is not None or at_most is not None or bool(beside)
    with locked(results):
        settings = changed(read_settings(results), due, penalty, at_most, beside) if given else None
        paths = gradebook.publish(results, students, written, settings)
    print(f"{len(paths)} files. Begin with {results / 'instructor.html'}.")
    return 0


# Errors --------------------------------------------------------------------------------------------------------------


def say(message: str, who: str = "course") -> None:
    """Print one line on stderr."""
    print(f"{who}: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 1 if something failed, 2 after one line on stderr for bad input."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console without ✓ shows ? rather than a traceback
    try:
        return course.main(argv, prog_name="course", standalone_mode=False) or 0
    except click.UsageError as error:
        who = error.ctx.command_path if error.ctx else "course"
        say(f"{' '.join(error.format_message().split())} (see {who} --help)", who)
        return BAD_INPUT
    except (ValueError, OSError) as error:  # no such file, a full disk, no permission
        say(" ".join(str(error).split()))
        return BAD_INPUT
    except ModuleNotFoundError as error:
        say(f"{error}; install what the notebooks need: pip install -e '.[lab,test]'")
        return BAD_INPUT
    except RuntimeError as error:
        from course_tools.notebooks import NotebookError

        if not isinstance(error, NotebookError):
            raise
        say(str(error))
        return FAILED
    except (Stopped, KeyboardInterrupt) as error:
        say(f"{str(error).rstrip('.') or 'interrupted'}; the same command again goes on with what is missing")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
