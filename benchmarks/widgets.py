"""How long a widget takes from a key press, or from a move of the pointer, to the changed picture, in a real browser.

Run it by ``.venv/bin/python benchmarks/widgets.py``. Presses the right arrow on one slider of each widget, 30 times,
or moves the pointer over its pad to 40 places, and waits for the frame with the new picture; then times the layers in
this process. On two cores that have nothing else to do, the median should stay under 100 ms from key to picture and
under 50 ms from pointer to picture. The film has 13 moments, so 12 presses. The switchboard is left out: it computes
nothing until it is told to train.
"""

import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import lab  # noqa: E402  (beside the browser tests)

from course_utils.widgets import divergences, gan_film, gan_game, gan_paths, vae  # noqa: E402
from course_utils.widgets.shell import Explorer  # noqa: E402

PRESSES, MOVES = 30, 40
WIDGETS = {  # constructor, label and name of the slider to press
    "W-KL": (divergences.kl_explorer, "separation", "separation"),
    "W-ELBO": (divergences.elbo_explorer, "mean of q", "mu"),
    "W-GAN": (gan_game.gan_explorer, "mean of G", "mean"),
    "W-film": (gan_film.film_explorer, "training", "moment"),
    "W-paths": (gan_paths.interpolation_explorer, "pair", "pair"),
}
WATCH = """image => {
  const keys = window.keys = [], changes = window.changes = [];
  document.addEventListener('keydown', () => keys.push(performance.now()), true);
  image.addEventListener('load', () => requestAnimationFrame(() => changes.push(performance.now())));
}"""


WATCH_POINTER = """canvas => {
  const moves = window.moves = [], draws = window.draws = [];
  document.addEventListener('pointermove', () => moves.push(performance.now()), true);
  const context = canvas.getContext('2d'), put = context.putImageData;
  context.putImageData = (...args) => {
    put.apply(context, args);
    requestAnimationFrame(() => draws.push(performance.now()));
  };
}"""


def notebook_of(constructors: dict[str, str]) -> nbformat.NotebookNode:
    """Return a notebook with one widget a cell; `constructors`: name -> module."""
    imports = "\n".join(f"from {module} import {name}" for name, module in constructors.items())
    cells = [imports, *(f"{name}()" for name in constructors)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=kernel)


def values_of(explorer: Explorer, name: str) -> list:
    """Return the values for one control, PRESSES of them at most, that it has not had yet."""
    control = explorer.controls[name]
    if hasattr(control, "options"):
        return list(control.options)[1 : PRESSES + 1]
    step = 1 if isinstance(control.value, int) else 0.01
    return [control.value + step * (i + 1) for i in range(PRESSES)]


def key_to_picture(notebook: lab.Notebook, source: str, label: str, presses: int) -> list[float]:
    """Return the milliseconds from each key press to the frame after the new picture has loaded."""
    widget = notebook.widget(source)
    widget.picture()
    widget.image.evaluate(WATCH)
    widget.slider(label).focus()
    for i in range(presses):
        notebook.page.keyboard.press("ArrowRight")
        notebook.page.wait_for_function("i => window.changes.length > i", arg=i, timeout=10_000)
        notebook.page.wait_for_timeout(200)  # the kernel's other messages
    keys, changes = notebook.page.evaluate("[window.keys, window.changes]")
    assert len(keys) == len(changes) == presses, f"{len(keys)} keys, {len(changes)} pictures"
    return [change - key for key, change in zip(keys, changes, strict=True)]


def pointer_to_picture(notebook: lab.Notebook, source: str) -> list[float]:
    """Return the milliseconds from each move of the pointer to the frame after the new picture is drawn."""
    widget = notebook.widget(source)
    widget.picture()
    notebook.page.mouse.move(*widget.at(0.5, 0.5))
    notebook.page.wait_for_timeout(500)
    widget.image.evaluate(WATCH_POINTER)
    for i in range(MOVES):
        turn = 2 * math.pi * (i + 1) / MOVES
        notebook.page.mouse.move(*widget.at(0.5 + 0.3 * math.cos(turn), 0.5 + 0.3 * math.sin(turn)))
        notebook.page.wait_for_function("i => window.draws.length > i", arg=i, timeout=10_000)
        notebook.page.wait_for_timeout(100)  # the kernel's other messages
    moves, draws = notebook.page.evaluate("[window.moves, window.draws]")
    assert len(moves) == len(draws) == MOVES, f"{len(moves)} moves, {len(draws)} pictures"
    return [draw - move for move, draw in zip(moves, draws, strict=True)]


def answers(explorer: vae.ManifoldExplorer) -> list[float]:
    """Return the milliseconds that the kernel takes for the answer to a move of the pointer."""
    times = []
    for i in range(MOVES):
        start = time.perf_counter()
        explorer.pad._handle_custom_msg({"do": "set", "state": {"z": [0.05 * i - 1, 0.5]}}, [])
        times.append(1000 * (time.perf_counter() - start))
    return times


def layers(explorer: Explorer, name: str) -> dict[str, list[float]]:
    """Return the milliseconds of the kernel's three layers for states never seen before."""
    times = {"compute": [], "draw": [], "PNG": []}
    for value in values_of(explorer, name):
        state = {**explorer.state, name: value}
        t0 = time.perf_counter()
        numbers = explorer._compute(tuple(state.items()))
        t1 = time.perf_counter()
        explorer._draw(explorer._artists, numbers)
        t2 = time.perf_counter()
        explorer._picture.frame()
        t3 = time.perf_counter()
        for layer, seconds in zip(times, (t1 - t0, t2 - t1, t3 - t2), strict=True):
            times[layer].append(1000 * seconds)
    return times


def line(what: str, times: list[float]) -> str:
    """Return median and 90 % point of times in milliseconds."""
    return (
        f"{what:<32} median {statistics.median(times):6.1f} ms   90 % {statistics.quantiles(times, n=10)[-1]:6.1f} ms"
    )


def main() -> int:
    if lab.find_chromium() is None:
        print(lab.INSTALL, file=sys.stderr)
        return 2
    explorers = {widget: make() for widget, (make, _, _) in WIDGETS.items()}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "notebooks").mkdir()
        makers = [make for make, _, _ in WIDGETS.values()] + [vae.manifold_explorer]
        constructors = {make.__name__: make.__module__ for make in makers}
        nbformat.write(notebook_of(constructors), home / "notebooks" / "widgets.ipynb")
        with lab.chromium() as browser, lab.session(home / "notebooks", home, browser) as open_notebook:
            notebook = open_notebook("widgets.ipynb")
            notebook.run_all()
            for widget, (make, label, name) in WIDGETS.items():
                presses = len(values_of(explorers[widget], name))
                times = key_to_picture(notebook, f"{make.__name__}()", label, presses)
                print(line(f"{widget}: key to picture", times), flush=True)
            print(line("W-manifold: pointer to picture", pointer_to_picture(notebook, "manifold_explorer()")))
    for widget, (_, _, name) in WIDGETS.items():
        for layer, times in layers(explorers[widget], name).items():
            print(line(f"{widget}: {layer} in the kernel", times))
    print(line("W-manifold: answer in the kernel", answers(vae.manifold_explorer())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
