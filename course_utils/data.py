"""Data sets as whole tensors on one device, 2-D toys with known densities, and the random draws that go with them."""

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from numbers import Integral
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from course_utils.errors import choose, require

DATASETS = ("digits", "mnist", "fashion_mnist")
MEANT = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "apple": "mps"}  # what some call a device
TIMEOUT = 15  # seconds without a byte before a mirror is given up


# Devices and random draws


def device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is cuda, then mps, then cpu. ``ValueError`` if unknown or not available here."""
    found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if str(name) == "auto":
        return torch.device(next(kind for kind, count in found.items() if count))
    kind, _, index = str(name).partition(":")
    choose(kind, ["auto", *found], "device", meant=MEANT)
    available = ", ".join(repr(kind) for kind, count in found.items() if count)
    require(
        (index or "0").isdecimal() and int(index or "0") < found.get(kind, 0),
        f"device {str(name)!r} is not available here; available: {available}; device='auto' takes the first of these",
    )
    return torch.device(f"{kind}:{index}" if index else kind)


def begin(name: str | torch.device = "auto", seed: int = 0) -> tuple[torch.device, torch.Generator]:
    """Begin a lecture: return the device called `name` and the generator of all its random numbers, and say so.

    Initial weights of networks follow `seed` too. PyTorch gets one thread, or $COURSE_THREADS of them: small networks
    are as fast on one, and far faster where the machine is busy. Raises ``ValueError`` as ``device`` and ``generator``
    do.
    """
    place, numbers = device(name), generator(seed)
    torch.manual_seed(seed)
    threads = os.environ.get("COURSE_THREADS") or "1"
    require(threads.isdecimal() and int(threads) > 0, f"COURSE_THREADS is {threads!r}; a number from 1 is allowed")
    torch.set_num_threads(int(threads))
    counted = "one thread" if threads == "1" else f"{threads} threads"
    print(f"device: {place}, seed {seed}, {counted} of PyTorch {torch.__version__}")
    return place, numbers


_device = device  # for the functions below that have an argument of that name


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A random number generator on `device` (as in `device`), started at `seed`, an integer from 0 to 2**63 - 1."""
    require(
        isinstance(seed, Integral) and not isinstance(seed, bool) and 0 <= seed < 2**63,
        f"seed {seed!r} is not allowed; it must be an integer from 0 to 2**63 - 1, for example 0",
    )
    return torch.Generator(_device(device)).manual_seed(int(seed))


def check_draw(generator: torch.Generator, **counts: int) -> None:
    for name, value in counts.items():
        whole = isinstance(value, Integral) and value >= 1
        require(whole, f"{name} {value!r} is not allowed; it must be an integer of at least 1")
    require(
        isinstance(generator, torch.Generator),
        f"generator {generator!r} is not a torch.Generator; make one with course_utils.data.generator(seed)",
    )


def uniform(*shape: int, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Uniform numbers on [0, 1), drawn on the generator's device; where `like` is and in its dtype, if given."""
    u = torch.rand(shape, generator=generator, device=generator.device)
    return u if like is None else u.to(like)


def normal(
    *shape: int, generator: torch.Generator, like: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Standard normal numbers, drawn on the generator's device and in `dtype`; then moved to where and what `like` is.

    Drawn in float64 they are other numbers than in float32, the default.
    """
    eps = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return eps if like is None else eps.to(like)


def batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch: 0..n-1 shuffled, in int64 tensors (batch_size,) on the generator's device; the last may be shorter."""
    check_draw(generator, n=n, batch_size=batch_size)
    return iter(torch.randperm(n, generator=generator, device=generator.device).split(int(batch_size)))


# Images


class Split(NamedTuple):
    """Images, uint8 (N, H, W) with integer grey levels, and their classes 0..9, int64 (N,), on one device."""

    images: Tensor
    labels: Tensor

    @property
    def flat(self) -> Tensor:
        """The images as vectors, uint8 (N, H*W), a view. With a channel they are ``images[:, None]``, (N, 1, H, W)."""
        return self.images.flatten(1)


class Images(NamedTuple):
    """A data set. Pixels are integers 0..levels-1: 17 levels for digits (8 × 8), 256 for the MNISTs (28 × 28).

    A training step takes ``data.unit(data.train.flat[index])``, (B, H*W), or
    ``data.unit(data.train.images[index, None])``, (B, 1, H, W), both floats in [0, 1].
    Dequantisation starts from the integers: ``(images + u) / data.levels``, u uniform on [0, 1).
    """

    name: str
    train: Split
    test: Split
    levels: int

    def unit(self, images: Tensor) -> Tensor:
        """Integer grey levels (…) as floats (…) in [0, 1], 0 for 0 and 1 for levels - 1."""
        return images / (self.levels - 1)


class DataNotFound(FileNotFoundError):
    """The data set's files are not there and could not be fetched; the message is one line and names the remedy."""


def load(dataset: str = "digits", *, device: str | torch.device = "cpu", root: str | Path | None = None) -> Images:
    """The whole of "digits", "mnist" or "fashion_mnist" on `device`.

    Digits are scikit-learn's, 1,500 to train and 297 to test on, and need no download. The MNISTs (60,000 and 10,000)
    are read from `root`, else $COURSE_DATA, else ~/.cache/course_utils, in torchvision's layout (MNIST/raw or
    FashionMNIST/raw), and downloaded into it if missing: ``DataNotFound`` if that fails. ``ValueError`` on an unknown
    name or a damaged file.
    """
    place = _device(device)
    if choose(dataset, DATASETS, "dataset") == "digits":
        levels, splits = 17, _digits()
    else:
        levels, splits = 256, _mnist(dataset, _root(root))
    train, test = (Split(images.to(place), labels.to(place)) for images, labels in splits)
    return Images(dataset, train, test, levels)


def _digits() -> list[Split]:
    from sklearn.datasets import load_digits

    images, labels = load_digits().images, load_digits().target
    order = np.random.RandomState(0).permutation(len(labels))  # a legacy stream: the same on every machine and version
    images, labels = torch.tensor(images[order]).to(torch.uint8), torch.tensor(labels[order]).long()
    return [Split(images[:1500], labels[:1500]), Split(images[1500:], labels[1500:])]


def _root(root: str | Path | None) -> Path:
    return Path(root or os.environ.get("COURSE_DATA") or "~/.cache/course_utils").expanduser().resolve()


def _mnist(dataset: str, root: Path) -> list[Split]:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[dataset]
    raw = root / kind.__name__ / "raw"
    for archive, md5 in kind.resources:
        if not (raw / archive).with_suffix("").is_file():
            _obtain(raw / archive, md5, kind.mirrors)
    try:
        sets = [kind(str(root), train=train, download=False) for train in (True, False)]
        splits = [Split(s.data, s.targets) for s in sets]
        require(all(len(s.images) == len(s.labels) for s in splits), "as many labels as images are needed")
    except (ValueError, TypeError, RuntimeError, AssertionError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"a file in {raw} is damaged ({reason}); remove the *-ubyte files there and load {dataset!r} again"
        ) from error
    return splits


# Downloads: written beside, verified, then renamed, so that a good file is never replaced by half a one


def _obtain(archive: Path, md5: str, mirrors: Sequence[str]) -> None:
    """Make the unpacked file beside `archive`, downloading that if need be; a second process waits for the first."""
    from filelock import FileLock

    user = os.getuid() if hasattr(os, "getuid") else ""  # a lock that another user made could not be opened
    with FileLock(Path(tempfile.gettempdir()) / f"course_utils-{user}-{md5}.lock"):
        if archive.with_suffix("").is_file():
            return
        if not _matches(archive, md5):
            _fetch(archive, md5, mirrors)
        _extract(archive)


def _fetch(archive: Path, md5: str, mirrors: Sequence[str]) -> None:
    """Download `archive` from the first of the `mirrors` that gives it with that md5; else ``DataNotFound``."""
    tried = []
    for mirror in mirrors:
        try:
            download(mirror + archive.name, archive, md5)
            return
        except (OSError, HTTPException) as error:
            tried.append(f"{mirror}: {' '.join(str(error).split()) or type(error).__name__}")
    raise DataNotFound(
        f"{archive.stem} is not in {archive.parent} and could not be downloaded ({'; '.join(tried)}): "
        f"set COURSE_DATA to a folder that holds {archive.parent.parent.name}/raw, or use dataset='digits'"
    )


def download(url: str, path: Path, md5: str) -> None:
    """Download `url` to `path`, resuming ``path.part``; ``OSError`` on a lost connection or a wrong md5."""
    part = path.with_name(path.name + ".part")
    resumed = not _matches(part, md5) and _receive(url, part)
    if _matches(part, md5):
        os.replace(part, path)
        return
    part.unlink(missing_ok=True)
    if not resumed:
        raise ConnectionError(f"what {url} sends does not have the md5 {md5}")
    download(url, path, md5)  # the bytes from before may have been wrong: once more, from the first


def _receive(url: str, part: Path) -> bool:
    """Write `url` to `part`, or only what is missing from it (HTTP Range); whether earlier bytes were kept."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "course_utils"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and start:  # nothing beyond `start`: the part is as long as the file, or longer
            return True
        raise
    with response:
        resumed = start > 0 and response.status == 206  # 200: the server sends all of it again
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        part.parent.mkdir(parents=True, exist_ok=True)
        name = part.name.removesuffix(".part")
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True, leave=False) as bar,
        ):
            while chunk := response.read(1 << 16):
                bar.update(file.write(chunk))
    size = part.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(f"the connection was lost after {size} of {total} bytes; run again to resume")
    return resumed


def _matches(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def _extract(archive: Path) -> None:
    """Unpack NAME.gz to NAME beside it."""
    part = archive.with_suffix(f".{os.getpid()}.part")
    try:
        with gzip.open(archive) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        os.replace(part, archive.with_suffix(""))
    finally:
        part.unlink(missing_ok=True)
