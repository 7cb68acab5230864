"""Arguments and results between the grader and a student's kernel, as JSON: numbers and text, never pickle."""

import inspect
import json
import math
import re

import torch
from torch import Tensor, nn

MOST = 200_000  # numbers in one tensor
LISTED = 10_000  # entries of one list
DEEPEST = 8  # lists in lists
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')  # in JSON
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}


def encode_tensor(tensor: Tensor) -> list:
    """Return ["tensor", dtype, shape, numbers]; of one with too many numbers only ["other", what it is]."""
    if tensor.numel() > MOST:
        return ["other", f"tensor of {tensor.numel()} numbers"]
    tensor = tensor.detach().cpu().to_dense()
    flat = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return ["tensor", str(tensor.dtype).removeprefix("torch."), list(tensor.shape), flat.flatten().tolist()]


def encode_module(module: nn.Module) -> list:
    """Return ["module", class, its source, parameters and plain attributes] of a module without submodules."""
    kind = type(module)
    plain = {
        k: encode(v) for k, v in vars(module).items() if k != "training" and isinstance(v, bool | int | float | str)
    }
    weights = {name: encode_tensor(p) for name, p in module.named_parameters()}
    return ["module", kind.__name__, inspect.getsource(kind), weights, plain]


def encode(value, depth: int = 0) -> list:
    """Return a value as what JSON can hold, tagged by its kind; of an unknown kind only its type's name."""
    if value is None or isinstance(value, bool):
        return ["plain", value]
    if isinstance(value, str):
        return ["plain", str(value)[:2000]]
    if isinstance(value, int | float):
        return ["plain", int(value) if isinstance(value, int) else float(value)]
    if isinstance(value, tuple | list) and depth < DEEPEST and len(value) <= LISTED:
        return [
            type(value).__name__ if type(value) in (tuple, list) else "tuple",
            [encode(v, depth + 1) for v in value],
        ]
    if isinstance(value, Tensor):
        return encode_tensor(value)
    if isinstance(value, nn.Module):
        return encode_module(value)
    if type(value).__module__ == "numpy":
        return encode_tensor(torch.as_tensor(value))
    return ["other", type(value).__name__]


def decode_tensor(dtype: str, shape: list[int], flat: list) -> Tensor:
    """Return the tensor of its encoding."""
    kind = DTYPES[dtype]
    if kind.is_complex:
        pairs = torch.tensor(flat, dtype=torch.float64).reshape(*shape, 2)
        return torch.view_as_complex(pairs).to(kind)
    return torch.tensor(flat, dtype=kind).reshape(shape)


def decode(value):
    """Return the value of an encoding, of our own making: a module's class is made from its source."""
    kind, *rest = value
    if kind == "plain":
        return rest[0]
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](decode(v) for v in rest[0])
    if kind == "tensor":
        return decode_tensor(*rest)
    name, source, weights, plain = rest
    names = {"torch": torch, "nn": nn, "Tensor": Tensor}
    exec(source, names)  # the grader's own class
    module = names[name].__new__(names[name])
    nn.Module.__init__(module)
    for key, weight in weights.items():
        setattr(module, key, nn.Parameter(decode(weight)))
    for key, attribute in plain.items():
        setattr(module, key, decode(attribute))
    return module


def stranger(name: str):
    """Return an object of an empty class that is called like a student's, but not like numbers in a report."""
    name = name[:80].encode("ascii", "replace").decode().replace("\0", "?")
    name = f"{name} object" if name == "number" or name.startswith("tensor of shape") else name or "object"
    return type(name, (), {"__repr__": lambda self: f"<{name}>"})()


def is_shape(shape) -> bool:
    """Tell whether a value is a list of few small sizes."""
    sizes = isinstance(shape, list) and len(shape) <= 16
    return sizes and all(type(n) is int and 0 <= n <= MOST for n in shape) and math.prod(shape) <= MOST


def decode_stranger(value, depth: int = 0):
    """Return the value of an encoding that a student's kernel sent. Raises ``ValueError`` for any other form.

    A value of an unknown kind comes back as an object of an empty class with a name like its own.
    """
    match value:
        case ["plain", None | bool() | int() | float() | str() as plain]:
            return plain
        case ["tuple" | "list" as kind, list() as entries] if depth < DEEPEST and len(entries) <= LISTED:
            return {"tuple": tuple, "list": list}[kind](decode_stranger(v, depth + 1) for v in entries)
        case ["tensor", str() as dtype, shape, list() as flat] if dtype in DTYPES and is_shape(shape):
            if all(isinstance(v, int | float) for v in flat):
                try:
                    return decode_tensor(dtype, shape, flat)
                except (RuntimeError, OverflowError, TypeError) as error:
                    raise ValueError(f"no tensor: {error}") from None
        case ["other", str() as name]:
            return stranger(name)
    raise ValueError("the answer came back in another form than the grader's own")


def parse(text: str):
    """Return the JSON value of a text, infinities and nan allowed. Raises ``ValueError``.

    A list or an object takes a hundred times the memory of its text, so there may be only so many.
    """
    bare = STRING.sub("", text)
    if bare.count("[") + bare.count("{") > MOST:
        raise ValueError(f"more than {MOST} lists")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
