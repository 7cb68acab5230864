"""course_utils.data against independent truths: scikit-learn, SciPy, torch.distributions, autograd, plane geometry."""

import gzip
import hashlib
import math
import os
import re
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td

from course_utils import data
from course_utils.data import GaussianMixture, batches, eight_gaussians, generator, toy


def _mixture(d=3, per_axis=True, dtype=torch.float64):
    g = torch.Generator().manual_seed(d)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=dtype)
    means = 2 * torch.randn(3, d, generator=g, dtype=dtype)
    sigmas = 0.5 + torch.rand((3, d) if per_axis else (3,), generator=g, dtype=dtype)
    return GaussianMixture(weights, means, sigmas)


# Devices and random draws


def test_device_auto_takes_cuda_then_mps_then_cpu(monkeypatch):
    for cuda, mps, expected in ((1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert data.device() == torch.device(expected)
        assert data.device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["cud", "cuda", "cuda:7", "cpu:x", "auto:1", "", None])
def test_device_refuses_what_is_unknown_or_missing(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="'cpu'") as error:
        data.device(name)
    assert repr(str(name)) in str(error.value) or repr(name) in str(error.value)


def test_device_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cuda'"):
        data.device("cud")


def test_generator_repeats_and_refuses_bad_seeds():
    assert torch.equal(torch.rand(4, generator=generator(3)), torch.rand(4, generator=torch.Generator().manual_seed(3)))
    for seed in (-1, 0.5, "1", 2**63):
        with pytest.raises(ValueError, match="seed"):
            generator(seed)


def test_batches_are_a_permutation_that_the_seed_fixes():
    epoch = list(batches(103, 10, generator(0)))
    assert [len(index) for index in epoch] == [10] * 10 + [3]
    assert torch.cat(epoch).sort().values.tolist() == list(range(103))
    assert torch.cat(epoch).tolist() != list(range(103))
    assert torch.equal(torch.cat(epoch), torch.cat(list(batches(103, 10, generator(0)))))
    g = generator(0)
    assert not torch.equal(torch.cat(list(batches(103, 10, g))), torch.cat(list(batches(103, 10, g))))
    assert [len(index) for index in batches(5, 64, generator(0))] == [5]


@pytest.mark.parametrize(("n", "size"), [(10, 0), (10, -3), (10, 2.5), (0, 4), (10, None)])
def test_batches_refuse_bad_sizes_at_once(n, size):
    with pytest.raises(ValueError, match="at least 1"):
        batches(n, size, generator(0))


def test_draws_want_a_generator():
    for draw in (lambda: batches(4, 2, 0), lambda: toy("spirals", 4, 0), lambda: eight_gaussians().sample(4, None)):
        with pytest.raises(ValueError, match=r"torch\.Generator"):
            draw()


# Images


def test_digits_are_all_of_scikit_learns_digits():
    from sklearn.datasets import load_digits

    digits, truth = data.load("digits"), load_digits()
    assert digits.train.images.shape == (1500, 8, 8) and digits.test.images.shape == (297, 8, 8)
    assert digits.train.images.dtype == torch.uint8 and digits.train.labels.dtype == torch.int64
    ours = Counter(
        (image.numpy().tobytes(), int(label))
        for split in (digits.train, digits.test)
        for image, label in zip(*split, strict=True)
    )
    assert ours == Counter(
        (image.astype(np.uint8).tobytes(), int(label)) for image, label in zip(truth.images, truth.target, strict=True)
    )
    assert digits.levels == 17 == len(torch.unique(digits.train.images))
    assert torch.equal(digits.train.images, data.load().train.images)
    assert set(digits.test.labels.tolist()) == set(range(10))


def test_unit_and_shapes_that_the_lectures_use():
    digits = data.load()
    index = next(batches(1500, 32, generator(0)))
    flat, images = digits.unit(digits.train.flat[index]), digits.unit(digits.train.images[index, None])
    assert flat.shape == (32, 64) and images.shape == (32, 1, 8, 8) and flat.dtype == torch.float32
    assert torch.equal(images.reshape(32, 64), flat)
    whole = digits.unit(digits.train.images)
    assert whole.min() == 0 and whole.max() == 1
    assert torch.equal((whole * 16).round().to(torch.uint8), digits.train.images)


def test_load_refuses_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        data.load("mnits")
    with pytest.raises(ValueError, match="tpu"):
        data.load("digits", device="tpu")


def _idx(array):
    """The idx file of a uint8 array: magic (0, 0, 8, dimensions), big-endian sizes, bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _tiny_files():
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, n in (("train", 7), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    return arrays


def _same(images, arrays):
    for prefix, split in (("train", images.train), ("t10k", images.test)):
        assert np.array_equal(split.images.numpy(), arrays[f"{prefix}-images-idx3-ubyte"])
        assert np.array_equal(split.labels.numpy(), arrays[f"{prefix}-labels-idx1-ubyte"])
    assert images.train.labels.dtype == torch.int64 and images.levels == 256


@pytest.mark.parametrize(("dataset", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_files_already_there_are_read_and_nothing_is_written(dataset, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "download", lambda *_: pytest.fail("tried to download"))
    raw, arrays = tmp_path / folder / "raw", _tiny_files()
    raw.mkdir(parents=True)
    for name, array in arrays.items():
        (raw / name).write_bytes(_idx(array))
    raw.chmod(0o555)
    _same(data.load(dataset, root=tmp_path), arrays)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    _same(data.load(dataset), arrays)
    assert sorted(path.name for path in raw.iterdir()) == sorted(arrays)
    raw.chmod(0o755)


@pytest.mark.parametrize("damage", ["cut", "empty", "labels"])
def test_damaged_files_are_named(damage, tmp_path):
    raw, arrays = tmp_path / "MNIST" / "raw", _tiny_files()
    raw.mkdir(parents=True)
    for name, array in arrays.items():
        (raw / name).write_bytes(_idx(array))
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    if damage == "labels":
        labels.write_bytes(_idx(arrays[labels.name][:-1]))
    else:
        images.write_bytes(images.read_bytes()[:100] if damage == "cut" else b"")
    with pytest.raises(ValueError, match=f"{re.escape(str(raw))} is damaged .* remove") as error:
        data.load("mnist", root=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif("COURSE_DATA" not in os.environ, reason="COURSE_DATA is not set")
def test_mnist_itself():
    mnist = data.load("mnist")
    assert mnist.train.images.shape == (60_000, 28, 28) and mnist.test.images.shape == (10_000, 28, 28)
    # published: 5,923 zeros and 6,742 ones to train on, 980 and 1,135 to test on; mean grey level 0.1307
    assert torch.bincount(mnist.train.labels)[:2].tolist() == [5923, 6742]
    assert torch.bincount(mnist.test.labels)[:2].tolist() == [980, 1135]
    assert mnist.unit(mnist.train.images).mean().item() == pytest.approx(0.1307, abs=1e-4)


# Downloads, from a server on this machine


class _Server(ThreadingHTTPServer):
    """Serves `files`; with `cut`, one answer stops after that many bytes; `ranges` False ignores the Range header."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cut, self.ranges, self.asked = files, None, True, []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name, wanted = self.server, self.path.strip("/"), self.headers["Range"]
        server.asked.append((name, wanted))
        if name not in server.files:
            return self.send_error(404)
        body = server.files[name]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cut])
        server.cut = None
        return None

    def log_message(self, *_):
        pass


BODY = np.random.default_rng(1).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with _Server({"file": BODY}) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(server, tmp_path, ranges):
    path, part = tmp_path / "file", tmp_path / "file.part"
    server.cut, server.ranges = 120_000, ranges
    with pytest.raises(OSError, match="after 120000 of 300000 bytes"):
        data.download(server.url + "file", path, MD5)
    assert not path.exists() and part.read_bytes() == BODY[:120_000]
    data.download(server.url + "file", path, MD5)
    assert server.asked == [("file", None), ("file", "bytes=120000-")]
    assert path.read_bytes() == BODY and not part.exists()


@pytest.mark.parametrize("stale", [b"x" * 1000, BODY + b"x", BODY])
def test_a_part_left_behind_never_spoils_the_file(server, tmp_path, stale):
    path, part = tmp_path / "file", tmp_path / "file.part"
    part.write_bytes(stale)
    data.download(server.url + "file", path, MD5)
    assert path.read_bytes() == BODY and not part.exists()
    assert len(server.asked) == (0 if stale == BODY else 2)


def test_a_wrong_md5_is_refused_and_the_old_file_kept(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old and good")
    with pytest.raises(OSError, match="does not have the md5"):
        data.download(server.url + "file", path, "0" * 32)
    assert path.read_bytes() == b"old and good" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def mirror(server, monkeypatch):
    """`server` as the second mirror of MNIST, the first one dead; the tiny files, gzipped, are what it serves."""
    from torchvision import datasets

    arrays = _tiny_files()
    server.files = {f"{name}.gz": gzip.compress(_idx(array)) for name, array in arrays.items()}
    resources = [(name, hashlib.md5(body).hexdigest()) for name, body in server.files.items()]
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/", server.url])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return server, arrays


def test_mnist_is_fetched_from_the_mirror_that_answers(mirror, tmp_path):
    server, arrays = mirror
    _same(data.load("mnist", root=tmp_path), arrays)
    names = sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir())
    assert names == sorted([*arrays, *server.files])
    assert len(server.asked) == 4
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()  # unpacked again from the good archive
    _same(data.load("mnist", root=tmp_path), arrays)
    assert len(server.asked) == 4


def test_two_first_loads_at_once_share_one_download(mirror, tmp_path):
    server, arrays = mirror
    with ThreadPoolExecutor(2) as pool:
        for images in pool.map(lambda _: data.load("mnist", root=tmp_path), range(2)):
            _same(images, arrays)
    assert len(server.asked) == 4


def test_a_failed_unpacking_leaves_nothing_half_done(mirror, tmp_path, monkeypatch):
    def fail(source, target):
        target.write(source.read(10))
        raise OSError("No space left on device")

    monkeypatch.setattr(data.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space left"):
        data.load("mnist", root=tmp_path)
    assert [path.name for path in (tmp_path / "MNIST" / "raw").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_no_network_gives_one_clear_sentence(mirror, tmp_path, monkeypatch):
    server, _ = mirror
    server.files = {}
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(data.DataNotFound) as error:
        data.load("mnist")
    message = str(error.value)
    for part in ("train-images-idx3-ubyte", str(tmp_path), "127.0.0.1:9", "refused", server.url, "404"):
        assert part in message
    assert "set COURSE_DATA to a folder that holds MNIST/raw" in message and "dataset='digits'" in message
    assert "\n" not in message and isinstance(error.value, OSError)
    assert list(tmp_path.iterdir()) == []


# Mixtures


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("per_axis", [True, False])
def test_mixture_log_prob_equals_torch_distributions(d, per_axis):
    mixture = _mixture(d, per_axis)
    sigmas = mixture.sigmas if per_axis else mixture.sigmas[:, :1]
    parts = td.Independent(td.Normal(mixture.means, sigmas.expand(3, d)), 1)
    truth = td.MixtureSameFamily(td.Categorical(mixture.weights), parts)
    x = 3 * torch.randn(4, 50, d, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(x), truth.log_prob(x))
    assert mixture.log_prob(x.float()).dtype == torch.float32


@pytest.mark.parametrize("d", [1, 2, 5])
def test_mixture_score_is_the_gradient_of_log_prob(d):
    mixture = _mixture(d)
    x = (3 * torch.randn(4, 50, d, generator=generator(2), dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x.detach()), gradient)


def test_mixture_far_away_and_with_a_zero_weight_stays_finite():
    mixture = GaussianMixture([0.0, 1.0], [[0.0], [3.0]], [1.0, 0.5])
    x = torch.tensor([[-80.0], [0.0], [90.0]])
    truth = td.Normal(3.0, 0.5)
    torch.testing.assert_close(mixture.log_prob(x), truth.log_prob(x[:, 0]))
    torch.testing.assert_close(mixture.score(x), (3 - x) / 0.25)


def test_responsibilities_are_bayes_rule():
    mixture = _mixture(2)
    x = torch.randn(20, 2, generator=generator(4), dtype=torch.float64)
    joint = [
        w * stats.multivariate_normal(m.numpy(), np.diag(s.numpy() ** 2)).pdf(x.numpy())
        for w, m, s in zip(mixture.weights.tolist(), mixture.means, mixture.sigmas, strict=True)
    ]
    truth = np.stack(joint, -1) / np.sum(joint, 0)[:, None]
    np.testing.assert_allclose(mixture.responsibilities(x).numpy(), truth, rtol=1e-10)


def test_mixture_density_integrates_to_one():
    for mixture, edge in ((_mixture(1), 15.0), (_mixture(2), 15.0), (eight_gaussians(), 4.0)):
        d = mixture.means.shape[1]
        axis = torch.linspace(-edge, edge, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
        # eight_gaussians keeps its numbers in single precision, hence 1e-6
        assert mixture.log_prob(grid).exp().sum().item() * (axis[1] - axis[0]) ** d == pytest.approx(1, abs=1e-6)


def test_mixture_samples_have_its_moments():
    mixture, n = _mixture(2), 20_000
    x = mixture.sample(n, generator(5))
    assert x.shape == (n, 2) and x.dtype == torch.float64
    w = mixture.weights[:, None]
    mean = (w * mixture.means).sum(0)
    second = torch.einsum("c,ci,cj->ij", mixture.weights, mixture.means, mixture.means)
    second += torch.diag((w * mixture.sigmas**2).sum(0))
    assert ((x.mean(0) - mean).abs() < 4 * x.std(0) / math.sqrt(n)).all()
    products = x[:, :, None] * x[:, None, :]  # (n, 2, 2)
    assert ((products.mean(0) - second).abs() < 4 * products.std(0) / math.sqrt(n)).all()


def test_mixture_samples_follow_its_distribution_function():
    mixture = _mixture(1)
    w, m, s = mixture.weights.numpy(), mixture.means[:, 0].numpy(), mixture.sigmas[:, 0].numpy()
    x = mixture.sample(4000, generator(6))[:, 0].numpy()
    assert stats.kstest(x, lambda t: (w * stats.norm.cdf(t[:, None], m, s)).sum(-1)).pvalue > 0.01


@pytest.mark.parametrize(
    ("weights", "means", "sigmas", "match"),
    [
        ([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0], r"0\.4.*sum must be 1"),
        ([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0], "negative"),
        ([float("nan"), 1.0], [[0.0], [1.0]], [1.0, 1.0], "weights"),
        ([0.5, 0.5], [0.0, 1.0], [1.0, 1.0], r"means have shape \(2,\); allowed: \(C, d\)"),
        ([1.0], [[0.0], [1.0]], [1.0, 1.0], r"weights have shape \(1,\).*\(2,\)"),
        ([0.5, 0.5], [[0.0], [1.0]], [[1.0, 1.0]] * 2, r"sigmas have shape \(2, 2\).*\(2,\) or \(2, 1\)"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, 0.0], "positive"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, -1.0], "positive"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, float("nan")], "positive"),
        ([0.5, 0.5], [[0.0], [float("inf")]], [1.0, 1.0], "finite"),
    ],
)
def test_mixture_refuses_bad_parameters(weights, means, sigmas, match):
    with pytest.raises(ValueError, match=match):
        GaussianMixture(weights, means, sigmas)


def test_mixture_refuses_points_of_another_shape():
    for x in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.long), torch.tensor(0.0)):
        for method in (eight_gaussians().log_prob, eight_gaussians().score):
            with pytest.raises(ValueError, match=r"x has shape .* allowed: \(…, 2\)"):
                method(x)


# Toys


@pytest.mark.parametrize("name", list(data.TOYS))
def test_toys_shape_range_and_seed(name):
    x = toy(name, 2000, generator(0))
    assert x.shape == (2000, 2) and x.dtype == torch.float32 and x.isfinite().all()
    assert x.abs().max() <= 4
    assert torch.equal(x, toy(name, 2000, generator(0))) and not torch.equal(x, toy(name, 2000, generator(1)))
    assert toy(name, 1, generator(0)).shape == (1, 2)


def test_toy_refuses_bad_input():
    with pytest.raises(ValueError, match="did you mean 'two_moons'"):
        toy("two_moon", 10, generator(0))
    for n in (0, -1, 2.5):
        with pytest.raises(ValueError, match="at least 1"):
            toy("spirals", n, generator(0))


def test_eight_gaussians_modes_are_equally_frequent():
    mixture, n = eight_gaussians(radius=3, sigma=0.2), 8000
    np.testing.assert_allclose(mixture.means.norm(dim=-1), 3, rtol=1e-6)
    x = mixture.sample(n, generator(1)).numpy()
    angle = np.arctan2(x[:, 1], x[:, 0])
    mode = np.round(angle / (np.pi / 4)).astype(int) % 8
    assert stats.chisquare(np.bincount(mode, minlength=8)).pvalue > 0.01
    centre = 3 * np.stack([np.cos(mode * np.pi / 4), np.sin(mode * np.pi / 4)], -1)
    distance = np.linalg.norm(x - centre, axis=-1) / 0.2  # Rayleigh: two standard normal coordinates
    assert stats.kstest(distance, stats.rayleigh.cdf).pvalue > 0.01


def test_two_moons_lie_on_scikit_learns_arcs():
    from sklearn.datasets import make_moons

    ours = data.two_moons(1000, generator(2), noise=0.0).numpy()
    theirs, _ = make_moons(2000, noise=None)
    theirs = 2 * theirs - [1, 0.5]
    gaps = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
    assert gaps.min(1).max() < 0.01  # each of ours is on an arc
    assert gaps.min(0).max() < 0.1  # and no stretch of an arc is left out
    upper = np.abs(np.hypot(ours[:, 0] + 1, ours[:, 1] + 0.5) - 2) < 1e-4
    upper &= ours[:, 1] >= -0.5 - 1e-6
    assert stats.binomtest(int(upper.sum()), 1000).pvalue > 0.01
    noise = toy("two_moons", 1000, generator(2)).numpy() - ours  # the same seed: the same arcs
    assert np.abs(noise.std(0) - 0.2).max() < 4 * 0.2 / math.sqrt(2 * 1000)


def test_checkerboard_fills_the_allowed_squares_and_no_other():
    x = toy("checkerboard", 8000, generator(3)).numpy()
    cell = np.floor((x + 4) / 2).astype(int)
    assert ((cell >= 0) & (cell < 4)).all() and (cell.sum(1) % 2 == 0).all()
    counts = np.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
    assert (counts > 0).sum() == 8 and stats.chisquare(counts[counts > 0]).pvalue > 0.01
    inside = (x + 4) / 2 - cell
    assert min(stats.kstest(inside[:, axis], "uniform").pvalue for axis in (0, 1)) > 0.01


def test_spirals_have_radius_proportional_to_angle():
    x = data.spirals(3000, generator(4), noise=0.0).numpy().astype(float)
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    turns = (angle - 3 * radius) / np.pi  # whole: even on the first arm, odd on the second
    assert np.abs(turns - np.round(turns)).max() < 1e-3
    assert stats.binomtest(int((np.round(turns) % 2 == 0).sum()), 3000).pvalue > 0.01
    assert stats.kstest((radius / np.pi) ** 2, "uniform").pvalue > 0.01
    noise = toy("spirals", 3000, generator(4)).numpy() - x
    assert np.abs(noise.std(0) - 0.1).max() < 4 * 0.1 / math.sqrt(2 * 3000)


@pytest.mark.gpu
def test_everything_stays_on_the_gpu():
    digits, g = data.load("digits", device="cuda"), generator(0, "cuda")
    index = next(batches(1500, 32, g))
    assert index.is_cuda and digits.unit(digits.train.flat[index]).is_cuda
    for name in data.TOYS:
        assert toy(name, 10, g).is_cuda
    x = _mixture(2).sample(1000, g)
    torch.testing.assert_close(_mixture(2).score(x).cpu(), _mixture(2).score(x.cpu()))
    torch.testing.assert_close(_mixture(2).log_prob(x).cpu(), _mixture(2).log_prob(x.cpu()))


@pytest.mark.parametrize("make", [data.two_moons, data.spirals])
def test_negative_noise(make):
    with pytest.raises(ValueError, match="noise -0.1"):
        make(5, data.generator(0), noise=-0.1)
