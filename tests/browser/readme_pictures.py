"""Take the README's pictures in a real browser: ``.venv/bin/python tests/browser/readme_pictures.py``."""

import sys
import tempfile
from pathlib import Path

import stage_page
from lab import ROOT

from course_tools.browser import INSTALL, chromium, find_chromium
from course_utils.widgets import divergences, flows, gan, vae

PICTURES = {  # the widget, and what is set
    "w-kl.png": (divergences.kl_explorer, {}),
    "w-manifold.png": (vae.manifold_explorer, {}),
    "w-film.png": (gan.film_explorer, {"moment": 6}),
    "w-flow.png": (flows.planar_explorer, {}),
}


def main() -> int:
    if find_chromium() is None:
        print(INSTALL, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, chromium() as browser, stage_page.served(Path(folder)) as address:
        for file, (make, values) in PICTURES.items():
            stage = stage_page.Stage(browser, address)
            root = stage.mount(make()._declaration)
            stage.page.evaluate("(values) => model.set('state', { ...model.get('state'), ...values })", values)
            stage.page.wait_for_timeout(1000)
            root.screenshot(path=ROOT / "lectures" / "images" / file)
            stage.close()
            print(f"wrote lectures/images/{file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
