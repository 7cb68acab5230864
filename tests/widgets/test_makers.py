"""Every widget as a lecture makes it: set, surprised and reset without a page. Colab's versions run this too."""

import importlib
import inspect
import pkgutil

import pytest

from course_utils import widgets
from course_utils.flow_couplings import spline_flow
from course_utils.widgets.stage import Widget

MODULES = [
    importlib.import_module(f"{widgets.__name__}.{found.name}") for found in pkgutil.iter_modules(widgets.__path__)
]
MAKERS = {
    name: maker
    for module in MODULES
    for name, maker in inspect.getmembers(module, inspect.isfunction)
    if inspect.signature(maker).return_annotation in (Widget, "Widget")
}
QUICK = {  # what a maker can't do without, and short trainings
    "switchboard": {"steps": 20},
    "layers_explorer": {"flow": spline_flow(2)},
    "picture_explorer": {"steps": 20},
}


def test_the_makers_are_found():
    assert {"kl_explorer", "manifold_explorer", "interpolation_explorer", "switchboard"} <= set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_set_surprised_and_reset(name):
    widget = MAKERS[name](**QUICK.get(name, {}))
    start = dict(widget.state)
    for _, state in widget._declaration.presets:
        before = widget.state
        widget.set(**state)
        assert widget.state == before | state
    with pytest.raises(ValueError, match="control 'nothing' is not known; allowed: "):
        widget.set(nothing=1)
    met = []
    for _ in range(5):
        widget.surprise()
        met.append(dict(widget.state))
    assert any(state != start for state in met)
    widget.reset()
    assert widget.state == start
