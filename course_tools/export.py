"""A notebook as a page to read, to print or to hand in: HTML with alternative texts, and PDF by a browser."""

import os
import subprocess
import tempfile
from pathlib import Path

from course_tools.browser import find_chromium
from course_tools.notebooks import ROOT, find_lecture, read_notebook
from course_utils.errors import choose, require
from course_utils.files import atomically

TEMPLATES = Path(__file__).with_name("templates")
FORMATS = ("pdf", "html")
PATIENCE = 300  # seconds for a browser to print a page
TYPESETTING = 60_000  # milliseconds that MathJax may take, of the page's own time


def notebook_of(which: str) -> Path:
    """Return the notebook of a path, or of a lecture's number or name. Raises ``ValueError`` for neither."""
    path = Path(which)
    if path.suffix == ".ipynb" or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: give a notebook's path or a lecture's number, such as 02")
        return path
    return find_lecture(which).student


def to_html(path: Path, mathjax: str | None = None) -> str:
    """Return a notebook, as it was saved, as one page; its formulas are set by MathJax from the address `mathjax`."""
    from nbconvert import HTMLExporter

    given = {"mathjax_url": mathjax} if mathjax else {}
    exporter = HTMLExporter(template_name="course", extra_template_basedirs=[str(TEMPLATES)], **given)
    return exporter.from_notebook_node(read_notebook(path), {"metadata": {"name": path.stem}})[0]


def to_pdf(html: str) -> bytes:
    """Return a page as PDF, printed by the Chromium or Chrome that is here. Raises ``ValueError`` where none is."""
    browser = find_chromium()
    require(browser is not None, "no Chromium or Chrome found to print with; take --to html and print it yourself")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page, pdf = Path(folder, "page.html"), Path(folder, "page.pdf")
        page.write_text(html, "utf-8")
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer",
        ]
        command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has none
        command += [f"--virtual-time-budget={TYPESETTING}", f"--print-to-pdf={pdf}", page.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{browser} did not print the page within {PATIENCE} s; take --to html") from None
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        require(pdf.is_file(), f"{browser} did not print the page: {last}")
        return pdf.read_bytes()


def export(which: str, kind: str, out: Path | None = None, mathjax: str | None = None) -> Path:
    """Write a notebook, as it was saved, as NAME.pdf or NAME.html into `out`, build/ if not given; return the path.

    `which` is a path or a lecture's number or name. Raises ``ValueError`` or ``FileNotFoundError`` for bad input.
    """
    path = notebook_of(which)
    result = (out or ROOT / "build") / f"{path.stem}.{choose(kind, FORMATS, 'format')}"
    html = to_html(path, mathjax)
    atomically(result, to_pdf(html) if kind == "pdf" else html)
    return result
