"""What `make widgets` makes: one bundle of all widgets' code, and still pictures of those that need no network."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from course_tools.browser import chromium, missing
from course_tools.stills import still, studio
from course_utils.errors import require
from course_utils.files import together
from course_utils.widgets import divergences, flows, gan_game
from course_utils.widgets.stage import DIST, Declaration

STAGE = Path(__file__).with_name("stage")
PICTURED: Mapping[str, Declaration] = {
    d.name: d for d in (divergences.KL, divergences.ELBO, gan_game.GAN, flows.PLANAR)
}


def modules() -> Path:
    """Return the folder of what the sources need besides, installed by npm as the lock file says.

    Raises ``ValueError`` where there is no node, or where npm fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    require(bool(node and npm), "no node or npm found; install them with: sudo apt-get install -y nodejs npm")
    lock, folder = STAGE / "package-lock.json", STAGE / "node_modules"
    with FileLock(folder.with_suffix(".lock")):  # of several processes one installs
        installed = folder / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = [npm, "ci", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=STAGE, capture_output=True, encoding="utf-8")
            require(done.returncode == 0, f"npm ci in {STAGE} failed: {done.stderr.strip()}")
    return folder


def bundle(check: bool = False) -> bool:
    """Write dist/course.js by node, or with `check` only look; tell whether it is what its sources make.

    Raises what ``modules`` does.
    """
    modules()
    node = shutil.which("node")
    return subprocess.run([node, "build.mjs", *(["--check"] if check else [])], cwd=STAGE).returncode == 0


def stills() -> list[Path]:
    """Take the pictures dist/NAME.png that a widget shows where no script runs; return those that changed.

    Without Chromium the former ones stay, and a line says so.
    """
    if missing():
        print(f"The widgets' pictures stay as they were: {missing()}", file=sys.stderr)
        return []
    with chromium() as browser, studio(browser) as page:
        made = {DIST / f"{name}.png": still(page, {"spec": d.spec()}) for name, d in PICTURED.items()}
    changed = {path: png for path, png in made.items() if not path.exists() or path.read_bytes() != png}
    together(changed)
    return list(changed)
