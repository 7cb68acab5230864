"""How long a widget takes from a hand's move to the painted frame, in a real JupyterLab and a real Chromium.

Run it by ``.venv/bin/python benchmarks/widgets.py [--moves 60]``. Presses arrow keys on one slider of each widget and
waits for the frame that shows the new picture; then the same with two others, for a ratio: a figure of matplotlib that
the kernel draws again and sends as PNG into an ``ipywidgets.Image``, and ``ipywidgets.interact`` around the same
figure. Two floors say what JupyterLab itself takes here: a slider that changes one number in the page, and one that
changes one word by way of the kernel. Aims, median and 95th percentile: twins 16 and 33 ms; networks in the page
25 ms; what asks the kernel 50 ms; the first picture 300 ms after its cell has ended.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import lab  # noqa: E402  (beside the browser tests)

from course_tools.browser import INSTALL, chromium, find_chromium  # noqa: E402

WIDGETS = {  # constructor, its module, what computes, selector of the slider or handle, a state to begin with
    "W-KL": ("kl_explorer", "divergences", "twin", "input[name=separation]", {"separation": 1}),
    "W-ELBO": ("elbo_explorer", "divergences", "twin", "input[name=mu]", {"mu": -3}),
    "W-GAN": ("gan_explorer", "gan", "twin", "input[name=width]", {"mean": -8}),
    "W-manifold": ("manifold_explorer", "vae", "network in the page", ".hand[aria-label^='z, ']", {}),
    "W-film": ("film_explorer", "gan", "computed beforehand", "input[name=moment]", {}),
    "W-paths, t": ("interpolation_explorer", "gan", "computed beforehand", "input[name=t]", {}),
    "W-paths, pair": ("interpolation_explorer", "gan", "kernel", "input[name=pair]", {"pair": 30}),
}
RIVALS = """
import io
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
x = np.linspace(-9, 9, 301)

def figure(separation):
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4))
    left.plot(x, np.exp(-(x - separation) ** 2) + np.exp(-(x + separation) ** 2))
    right.contourf(np.add.outer(np.abs(x[::10] - separation), np.abs(x[::10])), 20)
    return fig
"""
PNG = """
class png:
    slider, image = ipywidgets.FloatSlider(1, min=0, max=8, step=0.1), ipywidgets.Image(format="png")
    def moved(change):
        with io.BytesIO() as buffer:
            fig = figure(png.slider.value)
            fig.savefig(buffer, format="png")
            plt.close(fig)
            png.image.value = buffer.getvalue()
png.moved(None); png.slider.observe(png.moved, "value"); display(ipywidgets.VBox([png.slider, png.image]))
"""
INTERACT = "ipywidgets.interact(lambda separation: (figure(separation), plt.show())[1], separation=(0.0, 8.0, 0.1));"
FLOOR = """
class floor:
    word, slider = ipywidgets.Label("0"), ipywidgets.IntSlider(50)
    def moved(change):
        floor.word.value = f"{change.new}"
floor.slider.observe(floor.moved, "value"); display(ipywidgets.HBox([floor.word, floor.slider]))
"""
FLOORS = {"floor: one number, in the page": ".widget-readout", "floor: one word, by the kernel": ".widget-label"}
# Notes when a key came and when the frame was painted that shows its effect: the message comes after the frame. What is
# seen is an image's loading (load), a number drawn (a stage's, which draws as the frame begins) or a text.
WATCH = """([root, seen]) => {
  const times = window.times = [];
  let pressed = 0;
  const now = () => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { if (pressed) times.push(performance.now() - pressed); pressed = 0; };
    channel.port2.postMessage(0);
  };
  const painted = () => requestAnimationFrame(now);
  root.addEventListener('keydown', (event) => (pressed = event.timeStamp), true);
  if (seen === 'load') return root.addEventListener('load', painted, true);
  const drawn = { attributes: true, attributeFilter: ['data-drawn'] };
  if (seen === 'drawn') return new MutationObserver(now).observe(root, drawn);
  const text = { childList: true, characterData: true, subtree: true };
  new MutationObserver(painted).observe(root.querySelector(seen), text);
}"""
# When the cell ended (its number replaced the star) and when its widget was drawn for the first time.
FIRST = """cell => {
  const first = cell.first = {};
  new MutationObserver(() => {
    const prompt = cell.querySelector('.jp-InputPrompt').textContent;
    if (prompt.includes('*')) first.star = true;
    else if (first.star) first.ended ??= performance.now();
    if (cell.querySelector('.stage[data-drawn]')) first.drawn ??= performance.now();
  }).observe(cell, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def cells() -> list[str]:
    """Return the sources of a notebook with one widget a cell."""
    modules = {module: [] for _, module, *_ in WIDGETS.values()}
    for name, module, *_ in WIDGETS.values():
        modules[module].append(name)
    imports = [
        f"from course_utils.widgets.{module} import {', '.join(set(names))}" for module, names in modules.items()
    ]
    shown = [f"w = {name}(); w.set(**{state}); w  # {title}" for title, (name, _, _, _, state) in WIDGETS.items()]
    return ["\n".join(imports) + RIVALS, *shown, PNG, INTERACT, FLOOR]


def moved(page, root, slider, seen: str, moves: int) -> list[float]:
    """Return the milliseconds from each key press to the painted frame: to and fro where the slider is short."""
    root.evaluate(f"(root, seen) => ({WATCH})([root, seen])", seen)
    slider.focus()
    length = slider.evaluate("(s) => s.max ? Math.round((s.max - s.value) / s.step) : 30")
    for i in range(moves):
        page.keyboard.press("ArrowRight" if (i // max(length, 1)) % 2 == 0 else "ArrowLeft")
        page.wait_for_function("i => window.times.length > i", arg=i, timeout=10_000)
        page.wait_for_timeout(60)
    return page.evaluate("window.times")


def line(what: str, times: list[float], base: float) -> str:
    """Return median, 95 % point and the ratio to the PNG's median."""
    median, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return f"{what:<40} median {median:6.1f} ms   95 % {high:6.1f} ms   {median / base:5.2f} of the PNG"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=60, help="key presses a widget (default 60)")
    moves = parser.parse_args().moves
    if find_chromium() is None:
        print(INSTALL, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lab.write_notebook(home / "notebooks" / "widgets.ipynb", cells())
        with chromium() as browser, lab.session(home / "notebooks", home, browser) as open_notebook:
            opened = open_notebook("widgets.ipynb")
            page, found = opened.page, opened.page.locator(".jp-Notebook .jp-CodeCell")
            for cell in found.all():
                cell.evaluate(FIRST)
            opened.run_all()
            page.wait_for_timeout(1500)
            times, first = {}, {}
            for i, title in enumerate(["PNG from the kernel", "ipywidgets.interact"]):
                cell = found.nth(len(WIDGETS) + 1 + i)
                cell.scroll_into_view_if_needed()
                times[title] = moved(page, cell, cell.get_by_role("slider").first, "load", moves)
            cell = found.nth(len(WIDGETS) + 3)
            cell.scroll_into_view_if_needed()
            for title, text in FLOORS.items():
                times[title] = moved(page, cell, cell.get_by_role("slider").first, text, moves)
            for i, (title, (_, _, what, selector, _)) in enumerate(WIDGETS.items()):
                cell = found.nth(i + 1)
                cell.scroll_into_view_if_needed()
                told = cell.evaluate("cell => cell.first")
                first[title] = told["drawn"] - told["ended"]
                root = cell.locator(".stage")
                times[f"{title} ({what})"] = moved(page, root, root.locator(selector), "drawn", moves)
            base = statistics.median(times["PNG from the kernel"])
            for title, values in times.items():
                print(line(title, values, base), flush=True)
            print("first picture after its cell, ms: " + ", ".join(f"{t} {v:.0f}" for t, v in first.items()))
            print(*opened.complaints, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
