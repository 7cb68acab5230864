"""course_utils.data against independent truths: scikit-learn, SciPy, torch.distributions, autograd, plane geometry."""

import gzip
import hashlib
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

from course_utils import data
from course_utils.data import batches, generator
from course_utils.densities import eight_gaussians, toy

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


def test_a_lecture_begins_on_one_thread_with_its_seed(capsys):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        place, g = data.begin("cpu", 5)
        assert torch.get_num_threads() == 1 and place.type == "cpu" and g.initial_seed() == 5
        first = torch.nn.Linear(2, 2).weight
        data.begin("cpu", 5)
        assert torch.equal(torch.nn.Linear(2, 2).weight, first)
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.startswith("device: cpu, seed 5")


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
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        data.load("MNIST")
    with pytest.raises(ValueError, match="did you mean 'cuda'"):
        data.device("gpu")


@pytest.mark.parametrize("threads", ["0", "two"])
def test_threads_are_a_number(threads, monkeypatch):
    monkeypatch.setenv("COURSE_THREADS", threads)
    with pytest.raises(ValueError, match=f"COURSE_THREADS is '{threads}'; a number from 1 is allowed"):
        data.begin("cpu", 0)


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


@pytest.mark.gpu
def test_images_and_batches_stay_on_the_gpu():
    digits, g = data.load("digits", device="cuda"), generator(0, "cuda")
    index = next(batches(1500, 32, g))
    assert index.is_cuda and digits.unit(digits.train.flat[index]).is_cuda


def test_normal_draws_in_a_dtype_or_goes_where_another_tensor_is():
    def g():
        return data.generator(3)

    double = torch.randn(2, 3, generator=g(), dtype=torch.float64)
    assert torch.equal(data.normal(2, 3, generator=g(), dtype=torch.float64), double)
    assert data.normal(2, 3, generator=g()).dtype == torch.float32
    like = data.normal(2, 3, generator=g(), like=double)
    assert like.dtype == torch.float64 and torch.equal(like.float(), data.normal(2, 3, generator=g()))
