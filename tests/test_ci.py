"""`.ci/run`, with an apt-get that only tells what it was asked for."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELD = "Could not get lock /var/lib/apt/lists/lock. It is held by process 28451 (apt-get)"
APT_GET = """echo "$*" >> "$0.asked"
if [ "$*" = update ] && [ "$(wc -l < "$0.asked")" -le 2 ]; then echo "E: $SAID" >&2; exit 100; fi"""
PROGRAMS = {"apt-get": APT_GET, "make": 'echo "made $*"', "sleep": "", "sudo": 'exec "$@"'}


def run(folder: Path, said: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run it where nothing is installed and two updates fail with `said`; return also what apt-get was asked."""
    for name, script in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        (folder / name).chmod(0o755)
    for name in ("bash", "sh", "dirname", "id", "env", "wc"):
        (folder / name).symlink_to(shutil.which(name))
    env = os.environ | {"PATH": str(folder), "SAID": said}
    done = subprocess.run([ROOT / ".ci" / "run", "check"], env=env, capture_output=True, encoding="utf-8")
    return done, (folder / "apt-get.asked").read_text("utf-8").splitlines()


def test_it_waits_while_another_program_has_a_lock(tmp_path):
    done, asked = run(tmp_path, HELD)
    assert (done.returncode, done.stdout) == (0, "made check\n")
    assert asked[:3] == ["update"] * 3 and len(asked) == 4
    assert asked[3].startswith("-o DPkg::Lock::Timeout=600 install -y")


def test_another_fault_is_told(tmp_path):
    done, asked = run(tmp_path, "No space left on device")
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert asked == ["update"]
