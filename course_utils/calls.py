"""Call an answer as the instant check and the grader do: what it returns, its gradients, what it wrote into."""

import copy
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from course_utils.guard import sealed


class Returned(NamedTuple):
    """What a call gave: its value; a gradient for each argument asked for, None if it has none; what went wrong.

    `changed` are the places of the arguments that the function wrote into; `why` says why there are no gradients.
    """

    value: object
    gradients: tuple[Tensor | None, ...] = ()
    changed: tuple[int, ...] = ()
    why: str = ""


def plain(value):
    """Return what numbers of any kind (arrays, ranges, fractions, …) come to as tensors, in tuples and lists too."""
    if value is None or isinstance(value, Tensor | nn.Module | str | bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return (list if isinstance(value, list) else tuple)(map(plain, value))
    try:
        if not hasattr(value, "__len__") and not hasattr(value, "__array__"):
            return float(value)
        array = np.asarray(value)
        wide = array.dtype.kind == "O" or array.dtype.kind == "f" and array.itemsize > 8  # objects, long doubles
        return torch.as_tensor(array.astype(np.float64) if wide else array)
    except Exception:  # whatever an answer of any type raises
        return value


def leaves(value) -> list:
    """Return the entries of a tuple or list, and those of tuples and lists in it; of anything else itself alone."""
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, tuple | list) else [value]


def fresh(value):
    """Return a copy of arguments, with the tensors in lists and tuples and with modules, to be written into."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, nn.Module):
        return copy.deepcopy(value)
    return type(value)(map(fresh, value)) if isinstance(value, tuple | list) else value


def contents(value) -> list:
    """Return copies of all that a function could write into: tensors, a module's parameters and their gradients."""
    found = []
    for leaf in leaves(value):
        weights = list(leaf.parameters()) if isinstance(leaf, nn.Module) else []
        found += [w for p in weights for w in (p, p.grad)] or [leaf]
    return [v.detach().clone() if isinstance(v, Tensor) else v for v in found]


def alike(a, b) -> bool:
    """Tell whether two entries of contents are the same, nan at the same places."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    return type(a) is type(b) and (a is b or bool(a == b))


def is_changed(before: list, value) -> bool:
    """Tell whether an argument differs from what `contents` told of it before a call."""
    try:
        now = contents(value)
        return len(now) != len(before) or not all(map(alike, before, now))
    except Exception:  # whatever was put into a list
        return True


def gradients(function: Callable, args: tuple, places: tuple[int, ...]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a weighted sum of all that `function` returns, with respect to the arguments at places.

    The weights of a tensor's entries rise from 1 to 2, so that no two count alike. None: it does not depend on it.
    """
    inputs = [args[place].requires_grad_() for place in places]
    with torch.enable_grad():
        found = [v for v in leaves(function(*args)) if isinstance(v, Tensor) and v.requires_grad]
        total = sum(v.flatten().double() @ torch.linspace(1, 2, v.numel()).double() for v in found)
    return torch.autograd.grad(total, inputs, allow_unused=True) if found else (None,) * len(inputs)


def call_freely(function: Callable, arguments: Callable[[], tuple], places: tuple[int, ...]) -> Returned:
    """Return what `function` gives on `arguments()`, made anew for each of two calls if gradients are asked for.

    What the first call raises is raised; a second one that raises has no gradients, and `why` is its error's text.
    """
    args = arguments()
    before = [contents(a) for a in args]
    value = plain(function(*args))
    changed = tuple(place for place, a in enumerate(args) if is_changed(before[place], a))
    if not places:
        return Returned(value, changed=changed)
    try:
        return Returned(value, gradients(function, arguments(), places), changed)
    except Exception as error:
        return Returned(value, (None,) * len(places), changed, f"{type(error).__name__}: {error}")


def call(
    function: Callable,
    arguments: Callable[[], tuple],
    places: tuple[int, ...] = (),
    own: Mapping[str, FunctionType] | None = None,
) -> Returned:
    """Return what ``call_freely`` does; meanwhile the functions `own`, by their names, raise ``TheExercise``."""
    with sealed(own or {}):
        return call_freely(function, arguments, places)
