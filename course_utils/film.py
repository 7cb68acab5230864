"""A film of figures: one GIF, and one page with a scrubber that needs nothing from anywhere else."""

import base64
import html
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from course_utils.errors import require
from course_utils.files import together
from course_utils.plots import png_bundle

COLOURS = 128  # of all frames together


@dataclass(frozen=True)
class Film:
    """A film that was written: `gif` and `page` are its files. A notebook's cell shows it, moving, with its alt text.

    It is shown as an animated PNG: unlike a GIF, every viewer of notebooks takes it for a picture.
    """

    gif: Path
    page: Path
    alt: str
    frames: int
    fps: float
    width: int
    moving: bytes

    def __repr__(self) -> str:
        return f"Film({self.frames} frames, {self.fps:g} a second)"

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Return the film as one output of a notebook's cell."""
        content, metadata = png_bundle(self.moving, self.alt, self.width)
        return {**content, "image/png": base64.b64encode(self.moving).decode()}, metadata


def film(figures: Iterable[Figure], path: Path | str, alt: str, fps: float = 3) -> Film:
    """Write the figures, one frame each, as PATH.gif and PATH.html; return the film.

    Raises ``ValueError`` without figures, for frames of different sizes, an empty alt text, `fps` outside (0, 50] or a
    folder that can't be written to; then nothing is written.
    """
    rate = math.isfinite(fps) and 0 < fps <= 50
    require(rate, f"fps = {fps}; more than 0 and at most 50 frames a second are allowed, such as 3")
    require(bool(alt.strip()), "alt text is empty; say in a sentence what the film shows")
    frames = common_palette([pixels(fig) for fig in figures])
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".gif", ".html") else path
    gif, page = (stem.with_name(stem.name + end) for end in (".gif", ".html"))
    write({gif: animation(frames, fps, "gif"), page: page_of(frames, alt, fps).encode()})
    return Film(gif, page, alt, len(frames), fps, frames[0].width, animation(frames, fps, "png"))


def pixels(fig: Figure) -> np.ndarray:
    """Return the figure as pixels (H, W, 3), bytes, at its own resolution."""
    with io.BytesIO() as buffer:
        fig.savefig(buffer, format="png", dpi=fig.dpi)
        return np.asarray(Image.open(buffer).convert("RGB"))


def common_palette(frames: list[np.ndarray]) -> list[Image.Image]:
    """Return frames (H, W, 3) as images of the same few colours. Raises ``ValueError`` for none or different sizes."""
    require(len(frames) > 0, "there are no figures; a film needs at least one")
    sizes = sorted({frame.shape[1::-1] for frame in frames})
    listed = ", ".join(f"{w} x {h}" for w, h in sizes)
    require(len(sizes) == 1, f"frames have different sizes, {listed} pixels; give all figures one width and height")
    stack = np.stack(frames)  # (N, H, W, 3)
    few = Image.fromarray(np.vstack(frames)).quantize(COLOURS - 1, Image.Quantize.MAXCOVERAGE, kmeans=1)
    colours, index = few.getpalette()[: 3 * (COLOURS - 1)], np.array(few).reshape(stack.shape[:3])
    index[(stack == 255).all(-1)] = len(colours) // 3  # the white ground stays white
    images = [Image.fromarray(frame) for frame in index]
    for image in images:
        image.putpalette([*colours, 255, 255, 255])
    return images


def animation(frames: list[Image.Image], fps: float, kind: str) -> bytes:
    """Return the frames as an endless animation, "gif" or "png", `fps` of them a second."""
    duration = round(100 / fps) * 10  # milliseconds; a GIF counts in hundredths of a second
    with io.BytesIO() as buffer:
        frames[0].save(
            buffer, kind, save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=kind == "gif"
        )
        return buffer.getvalue()


def page_of(frames: list[Image.Image], alt: str, fps: float) -> str:
    """Return the page: the frames within it, a scrubber, a Play button."""
    sources = [f"data:image/png;base64,{base64.b64encode(png(frame)).decode()}" for frame in frames]
    values = {
        "ALT": html.escape(alt),
        "FIRST": sources[0],
        "FRAMES": ",\n".join(f'"{source}"' for source in sources),
        "LAST": str(len(frames) - 1),
        "PAUSE": str(round(1000 / fps)),
        "WIDTH": str(frames[0].width),
    }
    return re.sub("@([A-Z]+)@", lambda match: values[match[1]], PAGE)


def png(frame: Image.Image) -> bytes:
    """Return one frame as PNG bytes."""
    with io.BytesIO() as buffer:
        frame.save(buffer, "png", optimize=True)
        return buffer.getvalue()


def write(contents: dict[Path, bytes]) -> None:
    """Write all files or none. ``ValueError`` where the folder does not allow it."""
    try:
        together(contents)
    except OSError as error:
        folder = next(iter(contents)).parent
        raise ValueError(f"can't write into {folder} ({error.strerror}); name a path in another folder") from error


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Film</title>
<style>
:root { color-scheme: light dark; }
body { margin: 1rem auto; padding: 0 1rem; max-width: @WIDTH@px; font: 16px/1.5 system-ui, sans-serif; }
img { display: block; width: 100%; background: white; border-radius: 4px; }
.controls { display: flex; align-items: center; gap: 0.75rem; margin: 0.5rem 0; }
button { font: inherit; min-width: 5.5rem; padding: 0.25rem 0.75rem; }
input { flex: 1; }
output { font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0; }
</style>
</head>
<body>
<figure>
<img id="frame" src="@FIRST@" alt="@ALT@">
<div class="controls">
<button id="play" type="button">Play</button>
<input id="scrubber" type="range" min="0" max="@LAST@" value="0" step="1" aria-label="frame">
<output id="place" for="scrubber"></output>
</div>
<figcaption>@ALT@ <small>Keys: Space plays and stops, arrows go frame by frame.</small></figcaption>
</figure>
<script>
const frames = [
@FRAMES@
];
const [picture, play, scrubber, place] = ["frame", "play", "scrubber", "place"].map(id => document.getElementById(id));
let timer = null;
function show(k) {
  scrubber.value = k;
  picture.src = frames[k];
  place.textContent = `${k + 1} of ${frames.length}`;
}
function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}
function toggle() {
  if (timer !== null) return stop();
  if (scrubber.valueAsNumber === frames.length - 1) show(0);
  timer = setInterval(() => {
    show(Math.min(scrubber.valueAsNumber + 1, frames.length - 1));
    if (scrubber.valueAsNumber === frames.length - 1) stop();
  }, @PAUSE@);
  play.textContent = "Pause";
}
play.addEventListener("click", toggle);
scrubber.addEventListener("input", () => { stop(); show(scrubber.valueAsNumber); });
document.addEventListener("keydown", event => {
  if (event.key === " " && event.target !== play) {
    event.preventDefault();
    toggle();
  }
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && event.target !== scrubber) {
    stop();
    show(Math.min(Math.max(scrubber.valueAsNumber + step, 0), frames.length - 1));
  }
});
show(0);
</script>
</body>
</html>
"""
