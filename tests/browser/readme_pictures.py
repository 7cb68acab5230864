"""Take the README's pictures in a real browser: ``.venv/bin/python tests/browser/readme_pictures.py``."""

import shutil
import sys
import tempfile
from pathlib import Path

import lab

from course_tools.browser import INSTALL, chromium, find_chromium

PICTURES = {  # notebook, source of the widget's cell, label of a slider and how often it is moved on
    "w-kl.png": ("01_kl_and_elbo.ipynb", "kl_explorer()", "", 0),
    "w-manifold.png": ("02_vae.ipynb", "manifold_explorer()", "", 0),
    "w-film.png": ("03_gan.ipynb", "film_explorer(big, scores=scores)", "training", 6),
}


def main() -> int:
    if find_chromium() is None:
        print(INSTALL, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(lab.ROOT / "lectures", home / "lectures")
        with chromium() as browser, lab.session(home / "lectures", home, browser) as open_notebook:
            for file, (name, source, label, presses) in PICTURES.items():
                notebook = open_notebook(name)
                notebook.run_all()
                widget = notebook.widget(source)
                before = widget.picture()
                for _ in range(presses):
                    widget.slider(label).press("ArrowRight")
                    before = widget.wait_for_change(before)
                target = lab.ROOT / "lectures" / "images" / file
                target.parent.mkdir(exist_ok=True)
                widget.output.screenshot(path=target)
                print(f"wrote {target.relative_to(lab.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
