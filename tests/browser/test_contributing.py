"""The smallest complete widget, in CONTRIBUTING, works as it stands there."""

import re

import pytest
import stage_page
from lab import ROOT

pytestmark = pytest.mark.browser
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
STEPS = TEXT.split("## A widget in five steps")[1].split("\n## ")[0]


def code(language: str) -> str:
    """Return the one block of code in this language among the five steps."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", STEPS, re.S)
    return block


def test_the_example_of_a_widget_moves(browser, tmp_path):
    example: dict = {}
    exec(code("python"), example)
    declaration = example["TANGENT"]
    (tmp_path / "example.js").write_text(code("js"), "utf-8")
    with stage_page.served(tmp_path) as address:
        stage = stage_page.Stage(browser, address)
        stage.page.evaluate("import('./example.js').then(({ tangent }) => { course.widgets.tangent = tangent; })")
        stage.page.wait_for_function("course.widgets.tangent !== undefined")
        states = [{"x": x} for x in (-1.0, -0.3, 0.0, 0.8)]
        assert stage.computed(declaration, states) == [declaration.compute(s)._asdict() for s in states]
        root = stage.mount(declaration)
        before = root.locator("[data-key=tangent]").get_attribute("d")
        root.get_by_role("slider", name="point on the parabola").press("ArrowRight")
        stage.page.wait_for_function("Math.abs(model.get('state').x - 0.6) < 1e-9")
        stage.page.wait_for_function(
            "before => document.querySelector('[data-key=tangent]').getAttribute('d') !== before", arg=before
        )
        root.locator("output", has_text="slope 1.20").wait_for()
        assert stage.complaints == []
        stage.close()
