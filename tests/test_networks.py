"""Networks that come trained: written whole, checked when read, built by what their card names."""

import pytest
import torch

from course_tools import recipes
from course_utils import networks
from course_utils.nn import MLP


def saved(folder, **card):
    """Return a network, and the card with which it was saved in a folder."""
    torch.manual_seed(0)
    model = MLP([3, 4, 2])
    card = {"constructor": "nn.MLP", "arguments": {"widths": [3, 4, 2]}, **card}
    return model, recipes.save("net", model, {"codes": torch.ones(2, 3), "labels": torch.arange(3)}, card, folder)


def test_weights_and_extras_come_back_in_half_precision(tmp_path):
    model, card = saved(tmp_path, what="a test")
    assert networks.read_card("net", tmp_path) == card and card["what"] == "a test"
    other = networks.load("net", folder=tmp_path)
    assert not other.training
    torch.testing.assert_close(other[0].weight, model[0].weight.half().float())
    extras = networks.extras("net", folder=tmp_path)
    assert extras["codes"].dtype == torch.float32 and extras["labels"].tolist() == [0, 1, 2]


def test_whole_numbers_are_stored_as_they_are():
    counter = torch.tensor(123_457)  # half precision knows only multiples of 64 here
    assert recipes.halved({"steps": counter})["steps"] == 123_457


def test_a_card_may_name_an_activation():
    net = networks.build("nn.MLP", {"widths": [2, 3, 1], "activation": "ReLU"})
    assert isinstance(net[1], torch.nn.ReLU)


@pytest.mark.parametrize("part", ["weights", "extras"])
def test_damaged_and_missing_files(tmp_path, part):
    saved(tmp_path)
    read = networks.load if part == "weights" else networks.extras
    path = tmp_path / networks.file_of("net", part)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: sha256 .* course train net"):
        read("net", folder=tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="is missing; .* course train net"):
        read("net", folder=tmp_path)


def test_unknown_names_other_networks_and_no_extras(tmp_path):
    saved(tmp_path, arguments={"widths": [4, 4, 2]})
    with pytest.raises(ValueError, match="did you mean 'net'"):
        networks.load("nett", folder=tmp_path)
    with pytest.raises(ValueError, match="another network"):
        networks.load("net", folder=tmp_path)
    with pytest.raises(ValueError, match="'vae_mlp_20' has no extras; it has weights"):
        networks.extras("vae_mlp_20")


def test_a_failed_write_keeps_the_good_checkpoint(tmp_path, monkeypatch):
    model, card = saved(tmp_path)

    def no_space(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        recipes.save("net", MLP([3, 4, 2]), {}, {}, tmp_path)
    monkeypatch.undo()
    assert networks.read_card("net", tmp_path) == card
    torch.testing.assert_close(networks.load("net", folder=tmp_path)[0].weight, model[0].weight.half().float())
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".safetensors", ".json")]
