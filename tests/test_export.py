"""A notebook as HTML and PDF: what its pictures show is said, answers and formulas are there."""

import html
import re

import nbformat
import pytest

from course_tools import export

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ALT = 'Two "bells" & their <overlap>.'


@pytest.fixture
def notebook(tmp_path):
    """Return the path of a notebook with a formula, an answer and a picture."""
    picture = nbformat.v4.new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": ALT}})
    code = nbformat.v4.new_code_cell("answer = 42", outputs=[picture], execution_count=1, id="code")
    cells = [nbformat.v4.new_markdown_cell(r"$$\mathrm{KL} \ge 0 \tag{1.2a}$$", id="text"), code]
    path = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_every_picture_has_its_alternative_text(notebook, tmp_path):
    page = export.export(str(notebook), "html", tmp_path / "out")
    assert page == tmp_path / "out" / "mine.html"
    text = page.read_text("utf-8")
    (image,) = re.findall(r"<img[^>]*>", text)
    assert ALT in html.unescape(image) and "<overlap>" not in image
    assert r"\tag{1.2a}" in text and "42" in text


@pytest.mark.parametrize(
    ("which", "kind", "message"),
    [
        ("mine.ipynb", "html", "mine.ipynb is not there: give a notebook's path or a lecture's number"),
        ("99", "html", "lecture '99' is not known"),
        ("01", "docx", "format 'docx' is not known; allowed: 'pdf', 'html'"),
    ],
)
def test_bad_input(which, kind, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        export.export(which, kind)


def test_without_a_browser_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(export, "find_chromium", lambda: None)
    with pytest.raises(ValueError, match="no Chromium or Chrome found to print with; take --to html"):
        export.to_pdf("<p>text</p>")


@pytest.mark.browser
def test_pdf(notebook, tmp_path):
    if export.find_chromium() is None:
        pytest.skip("no Chromium found")
    pdf = export.export(str(notebook), "pdf", tmp_path, mathjax="data:,")
    assert pdf.read_bytes().startswith(b"%PDF-") and pdf.stat().st_size > 5000
