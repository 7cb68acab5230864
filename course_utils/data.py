"""Data sets as whole tensors on one device, 2-D toys with known densities, and the random draws that go with them."""

import gzip
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
TIMEOUT = 15  # seconds without a byte before a mirror is given up


# Devices and random draws


def device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is cuda, then mps, then cpu. ``ValueError`` if unknown or not available here."""
    found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if str(name) == "auto":
        return torch.device(next(kind for kind, count in found.items() if count))
    kind, _, index = str(name).partition(":")
    choose(kind, ["auto", *found], "device")
    available = ", ".join(repr(kind) for kind, count in found.items() if count)
    require(
        (index or "0").isdecimal() and int(index or "0") < found.get(kind, 0),
        f"device {str(name)!r} is not available here; available: {available}; device='auto' takes the first of these",
    )
    return torch.device(f"{kind}:{index}" if index else kind)


_device = device  # for the functions below that have an argument of that name


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A random number generator on `device` (as in `device`), started at `seed`, an integer from 0 to 2**63 - 1."""
    require(
        isinstance(seed, Integral) and 0 <= seed < 2**63,
        f"seed {seed!r} is not allowed; it must be an integer from 0 to 2**63 - 1, for example 0",
    )
    return torch.Generator(_device(device)).manual_seed(int(seed))


def _check_draw(generator: torch.Generator, **counts: int) -> None:
    for name, value in counts.items():
        whole = isinstance(value, Integral) and value >= 1
        require(whole, f"{name} {value!r} is not allowed; it must be an integer of at least 1")
    require(
        isinstance(generator, torch.Generator),
        f"generator {generator!r} is not a torch.Generator; make one with course_utils.data.generator(seed)",
    )


def _check_noise(noise: float) -> None:
    require(noise >= 0, f"noise {noise!r} is not allowed; it is a standard deviation, 0 or more")


def uniform(*shape: int, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Uniform numbers on [0, 1), drawn on the generator's device; where `like` is and in its dtype, if given."""
    u = torch.rand(shape, generator=generator, device=generator.device)
    return u if like is None else u.to(like)


def normal(*shape: int, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Standard normal numbers, drawn on the generator's device; where `like` is and in its dtype, if given."""
    eps = torch.randn(shape, generator=generator, device=generator.device)
    return eps if like is None else eps.to(like)


def batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch: 0..n-1 shuffled, in int64 tensors (batch_size,) on the generator's device; the last may be shorter."""
    _check_draw(generator, n=n, batch_size=batch_size)
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

    with FileLock(Path(tempfile.gettempdir()) / f"course_utils-{md5}.lock"):
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


# Densities and toys


class GaussianMixture:
    """p(x) = sum_c w_c N(x; mu_c, diag(sigma_c²)) in d dimensions, with its exact score.

    Takes weights (C,), non-negative with sum 1, means (C, d), and positive standard deviations sigmas (C,) or (C, d);
    else raises ``ValueError``. `log_prob`, `score` and `responsibilities` compute in the dtype and on the device of x.
    """

    def __init__(self, weights: Tensor, means: Tensor, sigmas: Tensor) -> None:
        weights, means, sigmas = (torch.as_tensor(value) * 1.0 for value in (weights, means, sigmas))  # integers too
        require(means.ndim == 2, f"means have shape {tuple(means.shape)}; allowed: (C, d), in one dimension (C, 1)")
        n, d = means.shape
        for name, value, shapes in (("weights", weights, [(n,)]), ("sigmas", sigmas, [(n,), (n, d)])):
            allowed = " or ".join(map(str, shapes))
            require(
                value.shape in shapes, f"{name} have shape {tuple(value.shape)}; allowed with these means: {allowed}"
            )
        require(
            bool((weights >= 0).all()) and math.isclose(float(weights.sum()), 1, abs_tol=1e-5),
            f"weights {weights.tolist()} are not allowed; none may be negative, and the sum must be 1",
        )
        positive = bool((sigmas > 0).all() & sigmas.isfinite().all())
        require(positive, f"sigmas {sigmas.tolist()} are not allowed; they must be positive and finite")
        require(bool(means.isfinite().all()), f"means {means.tolist()} are not allowed; they must be finite")
        self.weights, self.means = weights, means
        self.sigmas = sigmas if sigmas.ndim == 2 else sigmas[:, None].expand(n, d)

    def _log_joint(self, x: Tensor) -> Tensor:
        """log w_c + log N(x; mu_c, diag(sigma_c²)); x (…, d) to (…, C)."""
        d = self.means.shape[1]
        require(
            x.is_floating_point() and x.shape[-1:] == (d,),
            f"x has shape {tuple(x.shape)} and dtype {x.dtype}; allowed: (…, {d}), floating point",
        )
        weights, means, sigmas = self.weights.to(x), self.means.to(x), self.sigmas.to(x)
        z = (x[..., None, :] - means) / sigmas  # (…, C, d)
        return weights.log() - (z**2 / 2 + sigmas.log() + math.log(2 * math.pi) / 2).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats; x (…, d) to (…)."""
        return self._log_joint(x).logsumexp(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(c | x), the posterior of the component; x (…, d) to (…, C)."""
        return self._log_joint(x).softmax(-1)

    def score(self, x: Tensor) -> Tensor:
        """grad_x log p(x) = sum_c p(c | x) (mu_c - x) / sigma_c²; x (…, d) to (…, d)."""
        r = self.responsibilities(x)  # (…, C)
        pull = (self.means.to(x) - x[..., None, :]) / self.sigmas.to(x) ** 2  # (…, C, d)
        return (r[..., None] * pull).sum(-2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, (n, d), on the generator's device."""
        _check_draw(generator, n=n)
        weights, means, sigmas = (value.to(generator.device) for value in (self.weights, self.means, self.sigmas))
        c = torch.multinomial(weights, n, replacement=True, generator=generator)  # (n,)
        return means[c] + sigmas[c] * normal(n, means.shape[1], generator=generator, like=means)


def eight_gaussians(radius: float = 2.0, sigma: float = 0.1) -> GaussianMixture:
    """Eight equal Gaussians of standard deviation `sigma` on a ring; mode k is at angle 2 pi k / 8."""
    angle = 2 * math.pi * torch.arange(8) / 8
    means = radius * torch.stack([angle.cos(), angle.sin()], -1)  # (8, 2)
    return GaussianMixture(torch.full((8,), 1 / 8), means, torch.full((8,), float(sigma)))


def two_moons(n: int, generator: torch.Generator, noise: float = 0.2) -> Tensor:
    """Two interleaved half circles of radius 2, one about (-1, -½), one about (1, ½), plus noise; (n, 2)."""
    _check_noise(noise)
    angle = math.pi * uniform(n, generator=generator)
    side = uniform(n, generator=generator).round() * 2 - 1  # +1 upper, -1 lower
    arc = torch.stack([2 * angle.cos() - 1, 2 * angle.sin() - 0.5], -1)
    return side[:, None] * arc + noise * normal(n, 2, generator=generator)


def checkerboard(n: int, generator: torch.Generator) -> Tensor:
    """Uniform on the eight squares of side 2 of a 4 × 4 board on [-4, 4]² whose column + row is even; (n, 2)."""
    cell = torch.randint(8, (n,), generator=generator, device=generator.device)
    column = cell // 2
    row = 2 * (cell % 2) + column % 2
    return 2 * (torch.stack([column, row], -1) + uniform(n, 2, generator=generator)) - 4


def spirals(n: int, generator: torch.Generator, noise: float = 0.1) -> Tensor:
    """Two spiral arms of one and a half turns, ±(t/3) (cos t, sin t) for t in [0, 3 pi], plus noise; (n, 2)."""
    _check_noise(noise)
    t = 3 * math.pi * uniform(n, generator=generator).sqrt()
    side = uniform(n, generator=generator).round() * 2 - 1
    return (side * t / 3)[:, None] * torch.stack([t.cos(), t.sin()], -1) + noise * normal(n, 2, generator=generator)


TOYS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "two_moons": two_moons,
    "eight_gaussians": lambda n, generator: eight_gaussians().sample(n, generator),
    "checkerboard": checkerboard,
    "spirals": spirals,
}


def toy(name: str, n: int, generator: torch.Generator) -> Tensor:
    """n points (n, 2) of the toy called `name`, one of ``TOYS``, inside [-4, 4]², on the generator's device."""
    choose(name, TOYS, "toy")
    _check_draw(generator, n=n)
    return TOYS[name](n, generator)
