"""The widgets of lecture 3, each in a module of its own."""

from course_utils.widgets.gan_film import film_explorer
from course_utils.widgets.gan_game import gan_explorer
from course_utils.widgets.gan_paths import interpolation_explorer
from course_utils.widgets.gan_ring import switchboard

__all__ = ["film_explorer", "gan_explorer", "interpolation_explorer", "switchboard"]
