"""Checkpoints and their cards: written whole or not at all, checked when read, made and judged by one command."""

import json

import pytest
import torch

from course_utils import cards, cli, data, recipes, vae


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A recipe that takes a second, on the digits; checkpoints and states go to `tmp_path`."""
    recipe = recipes.Recipe(
        what="a small VAE of the digits",
        dataset="digits",
        make=lambda: vae.mlp_vae(64, 4, hidden=(32,)),
        loss=recipes.binary_loss,
        metrics=recipes.binary_metrics,
        epochs=3,
    )
    monkeypatch.setitem(recipes.RECIPES, "small", recipe)
    monkeypatch.setattr(recipes, "BUILD", tmp_path / "build")
    return recipe


def test_train_writes_weights_and_a_card_that_evaluate_confirms(small, tmp_path):
    card = recipes.train("small", folder=tmp_path, device="cpu")
    assert card == cards.read_card("small", tmp_path)
    assert card["steps"] == 3 * 12 and card["command"] == "course train small"
    assert recipes.evaluate("small", device="cpu", folder=tmp_path) == card["metrics"]
    model = small.make()
    cards.load("small", model, tmp_path)
    images = data.load("digits")
    x = vae.binarise(images.unit(images.test.flat), data.generator(0))
    elbo = vae.evaluate_elbo(model, x, data.generator(1)).mean().item()
    untrained = vae.evaluate_elbo(small.make(), x, data.generator(1)).mean().item()
    assert -elbo == pytest.approx(card["metrics"]["negative ELBO"], abs=0.5)
    assert elbo > untrained + 2


def test_training_twice_gives_the_same_metrics(small, tmp_path):
    first, second = (recipes.train("small", folder=tmp_path / n, device="cpu") for n in ("a", "b"))
    assert first["sha256"] == second["sha256"]
    assert first["metrics"] == second["metrics"]


def test_an_interrupted_training_writes_no_checkpoint(small, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae, "negative_elbo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recipes.train("small", folder=tmp_path, device="cpu")
    assert cards.names(tmp_path) == []


def saved(tmp_path, **card):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return model, cards.save("net", model, card, tmp_path)


def test_weights_come_back_in_half_precision(tmp_path):
    model, _ = saved(tmp_path, what="a test")
    other = torch.nn.Linear(3, 2)
    assert cards.load("net", other, tmp_path)["what"] == "a test"
    torch.testing.assert_close(other.weight, model.weight.half().float())


def test_damaged_missing_unknown_and_foreign_checkpoints(tmp_path):
    model, _ = saved(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'net'"):
        cards.load("nett", model, tmp_path)
    with pytest.raises(ValueError, match="another network"):
        cards.load("net", torch.nn.Linear(4, 2), tmp_path)
    path = tmp_path / "net.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: sha256 .* course train net"):
        cards.load("net", model, tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="is missing; .* course train net"):
        cards.load("net", model, tmp_path)


def test_a_failed_write_keeps_the_good_checkpoint(tmp_path, monkeypatch):
    model, card = saved(tmp_path)

    def no_space(self, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(cards.Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space"):
        cards.save("net", torch.nn.Linear(3, 2), {}, tmp_path)
    monkeypatch.undo()
    assert cards.load("net", model, tmp_path) == card


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_unknown_names_give_one_line(command, capsys):
    assert cli.main([command, "vae_mlp_2O"]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'vae_mlp_20'" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", cards.names())
def test_shipped_checkpoints_are_those_of_their_cards(name):
    recipe = recipes.RECIPES[name]
    card = cards.load(name, recipe.make())
    assert card["command"] == f"course train {name}" and card["epochs"] == recipe.epochs
    assert all(isinstance(v, int | float) for v in card["metrics"].values()) and card["metrics"]
    assert json.dumps(card)


def test_every_recipe_is_shipped_and_all_are_small():
    assert cards.names() == sorted(recipes.RECIPES)
    assert sum(path.stat().st_size for path in cards.FOLDER.glob("*.safetensors")) < 10e6


def test_evaluate_recomputes_the_card_on_mnist(capsys):
    """Where MNIST is at hand; the project never needs it to pass."""
    import os

    if not os.environ.get("COURSE_DATA"):
        pytest.skip("COURSE_DATA is not set")
    assert cli.main(["evaluate", "vae_mlp_20", "--device", "cpu"]) == 0
