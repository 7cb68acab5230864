"""The switchboard of trainings on the ring, headless: every rule reaches the training, results are kept and shared."""

import numpy as np
import pytest
import torch

from course_utils import data, gan
from course_utils.training import Interrupted
from course_utils.widgets import gan_ring
from course_utils.widgets.shell import VIEW

pytestmark = pytest.mark.slow  # each test makes its own board, with a picture of three trainings


@pytest.fixture(autouse=True)
def no_rings(monkeypatch):
    """Forget trainings after each test."""
    monkeypatch.setattr(gan_ring, "RINGS", {})


@pytest.fixture
def trainings(monkeypatch):
    """Note the arguments of each training and make it as short as can be."""
    seen, play = [], gan.play_ring

    def noted(game, seed, steps, momentum, spectral, watch, label=None):
        seen.append({"game": game, "seed": seed, "steps": steps, "momentum": momentum, "spectral": spectral})
        return play(game, seed, steps, momentum, spectral, watch, label)

    monkeypatch.setattr(gan, "play_ring", noted)
    return seen


@pytest.fixture
def board(trainings):
    return gan_ring.switchboard(steps=20)


def test_only_train_trains_and_only_once(board, trainings):
    assert len(trainings) == 3  # the presets
    start = board.image.value
    board.controls["smooth"].value = True
    assert len(trainings) == 3 and board.image.value == start
    assert "Press Train" in board.readout.value and "label smoothing" in board.readout.value
    board.buttons["Train"].click()
    assert board.error is None and len(trainings) == 4 and trainings[-1]["game"].smooth == 0.1
    trained, said = board.image.value, board.readout.value
    assert trained != start and "of 8 modes" in said and "label smoothing" in said
    board.buttons["Reset"].click()
    assert board.image.value == start
    board.controls["smooth"].value = True  # what was trained before is shown at once
    assert board.image.value == trained and board.readout.value == said
    board.act("Train")
    assert len(trainings) == 4


def test_progress_is_shown_while_it_trains(board):
    pictures, readouts = [], []
    board.image.observe(lambda change: pictures.append(change["new"]), "value")
    board.readout.observe(lambda change: readouts.append(change["new"]), "value")
    board.set(blur=True)
    board.act("Train")
    assert len(set(pictures)) >= 10
    assert "after 1 of 20 steps" in readouts[1] and "after 19 of 20 steps" in readouts[-2]


@pytest.mark.parametrize("name", gan_ring.PLAIN)
def test_every_control_reaches_the_training(board, trainings, name):
    control = board.controls[name]
    others = {"seed": 3, "momentum": 0.5, "critic_steps": 5, "loss": "hinge"}  # not what a preset has
    control.value = others.get(name, True)
    board.act("Train")
    assert board.error is None
    before, after = trainings[0], trainings[-1]
    changed = {key for key in ("seed", "momentum", "spectral") if before[key] != after[key]}
    changed |= {key for key, v in vars(after["game"]).items() if v != getattr(before["game"], key)}
    assert changed == {"loss": {"kind"}}.get(name, {name})


@pytest.mark.parametrize("loss", gan.LOSSES)
def test_every_loss_with_every_remedy_trains(board, loss):
    board.set(loss=loss, critic_steps=5, momentum=0.5, **dict.fromkeys(gan_ring.REMEDIES, True))
    board.act("Train")
    assert board.error is None and board.numbers.done == 20


def test_labels_are_for_the_cross_entropy(board, trainings):
    assert not board.controls["flip"].disabled
    board.set(loss="hinge")
    assert all(board.controls[name].disabled for name in gan_ring.LABELS)
    board.act("Train")
    trained, n = board.image.value, len(trainings)
    board.set(flip=True)  # no other training
    board.act("Train")
    assert board.image.value == trained and len(trainings) == n


def test_results_are_shared_with_the_lecture(trainings):
    first = gan_ring.ring_result({"momentum": 0.0}, steps=20)
    again = gan_ring.ring_result({"momentum": 0.0, "seed": 0}, steps=20)
    assert first is again and len(trainings) == 1
    gan_ring.switchboard(steps=20)
    assert len(trainings) == 3  # one preset was there
    assert gan_ring.ring_result({"momentum": 0.0}, steps=40) is not first


def test_a_training_is_what_play_ring_does():
    ring = gan_ring.ring_result({"momentum": 0.5, "r1": True, "seed": 2}, steps=20)
    players = gan.play_ring(gan.Game(r1=0.3), seed=2, steps=20, momentum=0.5)
    samples = players.sample(gan_ring.SAMPLES, data.generator(2)).numpy()
    assert ring.samples == pytest.approx(samples, abs=1e-6)
    angle = 2 * np.pi * np.arange(8) / 8
    distance = np.linalg.norm(samples[:, None] - 2 * np.stack([np.cos(angle), np.sin(angle)], -1), axis=-1)
    near = [(distance.argmin(1) == k) & (distance.min(1) <= 0.3) for k in range(8)]
    assert ring.counts.tolist() == [int(v.sum()) for v in near]
    assert ring.looks[-1].tolist() == pytest.approx([20, sum(c >= 20 for c in ring.counts), np.sum(near) / 1000])
    assert ring.looks[:, 0].tolist() == list(range(1, 21)) and ring.done == ring.steps == 20
    place = [(0.5 / 48 - 0.5) * 6.4, (47.5 / 48 - 0.5) * 6.4]  # the cell at the upper left
    with torch.no_grad():
        d = torch.sigmoid(players.eval().logits(torch.tensor([place]))).item()
    assert ring.field[47, 0] == pytest.approx(d, abs=1e-6)


def test_a_critics_scores_are_scaled():
    field = gan_ring.ring_result({"loss": "wasserstein"}, steps=20).field
    assert field.min() == 0 and field.max() == 1


def test_looking_does_not_disturb_the_training():
    """Spectral normalisation estimates anew at each evaluation in training mode."""
    ring = gan_ring.ring_result({"spectral": True}, steps=20)
    torch.manual_seed(0)
    players = gan.play_ring(gan.Game(), seed=0, steps=20, momentum=0.9, spectral=True)
    assert ring.samples == pytest.approx(players.sample(gan_ring.SAMPLES, data.generator(0)).numpy(), abs=1e-6)


def test_a_stopped_training_is_shown_but_not_kept(board, monkeypatch):
    see, calls = gan_ring.see, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt  # as from the stop button, between two steps
        return see(*args)

    monkeypatch.setattr(gan_ring, "see", stopped)
    board.set(blur=True)
    board.act("Train")
    assert board.error is None and "after 6 of 20 steps" in board.readout.value
    monkeypatch.setattr(gan_ring, "see", see)
    board.act("Train")
    assert "after" not in board.readout.value and board.numbers.done == 20


def test_a_stop_while_the_switchboard_is_made_stops_its_cell(monkeypatch):
    """Swallowed, it would stop one of three trainings, and Run All would go on with the next cell."""
    see, calls = gan_ring.see, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return see(*args)

    monkeypatch.setattr(gan_ring, "see", stopped)
    with pytest.raises(Interrupted, match="interrupted after 7 of 20 steps"):
        gan_ring.switchboard(steps=20)
    assert len(calls) == 7 and not gan_ring.RINGS


def test_a_diverging_training_is_shown_in_the_widget(board, monkeypatch):
    def diverge(*args, label=None):
        raise FloatingPointError("the loss is nan at a rate of 0.006; try a lower lr")

    monkeypatch.setattr(gan, "play_ring", diverge)
    board.set(flip=True)
    board.act("Train")
    assert isinstance(board.error, FloatingPointError) and "the loss is nan" in board.error_box.value
    board.reset()
    assert board.error is None


def test_surprises_of_the_switchboard(trainings):
    first, second = gan_ring.switchboard(seed=5, steps=20), gan_ring.switchboard(seed=5, steps=20)
    for _ in range(10):
        first.surprise()
        second.surprise()
        assert first.error is None and first.state == second.state
    assert len(trainings) == 3 and trainings[0]["seed"] == 5
    assert gan_ring.switchboard(seed=12, steps=20).state["seed"] == 12


def test_saved_output_of_the_switchboard(board):
    content, metadata = board._repr_mimebundle_()
    assert set(content) == {VIEW, "image/png", "text/plain"} and metadata["image/png"]["width"] == 880
    assert len(content["image/png"]) < 300_000 and len(board.presets) == 3


@pytest.mark.parametrize("call, message", [
    (lambda: gan_ring.ring_result({"momentun": 0.5}), "rule 'momentun' is not known; .*did you mean 'momentum'"),
    (lambda: gan_ring.ring_result({"loss": "hing"}), "did you mean 'hinge'"),
    (lambda: gan_ring.ring_result({}, steps=10), "steps = 10; at least 20"),
    (lambda: gan_ring.switchboard(steps=5), "steps = 5; at least 20"),
])  # fmt: skip
def test_bad_rules(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_switchboards_presets_show_what_their_titles_say():
    """With room for other processors: over ten seeds momentum 0.9 covered at most two modes, the others nearly all."""
    board = gan_ring.switchboard()
    wild, calm, penalised = (gan_ring.ring_result({**board.state, **rules}) for _, rules in board.presets)
    assert wild.looks[-5:, 1].max() <= 4 and wild.looks[-5:, 2].max() < 0.6
    for ring in (calm, penalised):
        assert ring.looks[-1, 1] >= 6 and ring.looks[-1, 2] > 0.5
