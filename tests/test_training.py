"""The fit loop against a least-squares problem with a known answer."""

import pytest
import torch

from course_utils import training
from course_utils.nn import EMA, MLP
from course_utils.training import every, fit


def problem(n: int = 200):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=g)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(n, generator=g)
    net = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    return x, y, net, lambda index: (net(x[index])[:, 0] - y[index]).square().mean(), g


def test_finds_the_least_squares_solution():
    x, y, net, loss, g = problem()
    history = fit(loss, net, len(x), steps=600, batch_size=200, lr=0.05, generator=g)
    torch.testing.assert_close(
        net.weight[0].detach(), torch.linalg.lstsq(x, y[:, None]).solution[:, 0], atol=1e-3, rtol=0
    )
    assert len(history.losses) == 600
    assert not history.interrupted


def test_batches_cover_the_data_each_epoch():
    seen = []
    x, _, net, _, g = problem(10)

    def loss(index):
        seen.append(index)
        return net.weight.sum() * 0 + 1.0

    fit(loss, net, len(x), steps=6, batch_size=4, generator=g)
    assert [len(i) for i in seen] == [4, 4, 2, 4, 4, 2]
    assert torch.cat(seen[:3]).sort().values.tolist() == list(range(10))


def test_seconds_end_it():
    x, _, net, loss, g = problem()
    history = fit(loss, net, len(x), seconds=0.2, generator=g)
    assert history.losses
    assert history.seconds >= 0.2


def test_ctrl_c_keeps_parameters_and_history():
    x, _, net, loss, g = problem()
    calls = []

    def interrupted(index):
        calls.append(index)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return loss(index)

    history = fit(interrupted, net, len(x), steps=100, lr=0.1, generator=g)
    assert history.interrupted
    assert len(history.losses) == 7
    assert net.weight.detach().abs().sum() > 0


def problem_with_noise():
    """The least-squares problem with noise from the generator in each loss, as a VAE has it."""
    x, y, net, _, g = problem()

    def loss(index):
        return (net(x[index])[:, 0] - y[index] + torch.randn(len(index), generator=g)).square().mean()

    return net, loss, g, len(x)


def test_in_a_notebook_the_bar_has_one_place_and_leaves_nothing(monkeypatch):
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/html"])

    def display(data, raw, display_id):
        shown.append(data["text/html"])
        return Handle()

    monkeypatch.setattr(training, "in_notebook", lambda: True)
    monkeypatch.setattr(training, "display", display)
    x, _, net, loss, g = problem()
    fit(loss, net, len(x), steps=3, generator=g, label="a <b>")
    assert "a &lt;b&gt;" in shown[0] and "0/3" in shown[0]
    assert shown[-1] == ""


def test_metrics_are_kept_with_their_steps():
    x, _, net, loss, g = problem()
    values = iter([0.5, 0.25])
    history = fit(loss, net, len(x), steps=7, generator=g, after_step=every(3, lambda: next(values)))
    assert history.metrics == [(3, 0.5), (6, 0.25)]
    with pytest.raises(ValueError, match="every 1 step or more"):
        every(0, list)


def test_the_average_of_the_weights_is_what_the_formula_says():
    """w <- decay w + (1 - decay) model, the decay at most (1 + n)/(10 + n) in step n."""
    seen = []
    x, _, net, loss, g = problem()
    start = net.weight.detach().clone()
    fit(
        loss,
        net,
        len(x),
        steps=30,
        lr=0.05,
        generator=g,
        ema=0.9,
        after_step=lambda n: seen.append(net.weight.detach().clone()),
    )
    average = start.double()
    for n, weight in enumerate(seen, start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weight.double()
    torch.testing.assert_close(net.weight.detach().double(), average, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="decay = 1"):
        EMA(net, 1)


@pytest.mark.gpu
def test_bfloat16_on_cuda_comes_near_the_solution():
    x, y, net, _, g = problem()
    x, y, net = x.cuda(), y.cuda(), net.cuda()
    seen = []

    def loss(index):
        out = net(x[index])[:, 0]
        seen.append(out.dtype)
        return (out.float() - y[index]).square().mean()

    fit(loss, net, len(x), steps=600, batch_size=200, lr=0.05, generator=g, bf16=True)
    assert set(seen) == {torch.bfloat16} and net.weight.dtype == torch.float32
    solution = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    torch.testing.assert_close(net.weight[0].detach(), solution, atol=0.05, rtol=0)


def test_bf16_changes_nothing_on_a_cpu():
    losses = []
    for bf16 in (False, True):
        x, _, net, loss, g = problem()
        losses.append(fit(loss, net, len(x), steps=5, generator=g, bf16=bf16).losses)
    assert losses[0] == losses[1]


class Killed(Exception):
    """Stands for a process that was killed: nothing in the fit handles it."""


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_killed_fit_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch, ema):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    state = tmp_path / "fit.state"
    net, loss, g, n = problem_with_noise()
    whole = fit(loss, net, n, steps=50, batch_size=16, generator=g, ema=ema, after_step=every(10, lambda: 1.0))
    expected = net.weight.detach().clone()

    def kill(done):
        if done == 23:
            raise Killed
        return 1.0 if done % 10 == 0 else None

    net, loss, g, n = problem_with_noise()
    with pytest.raises(Killed):
        fit(loss, net, n, steps=50, batch_size=16, generator=g, ema=ema, resume=state, after_step=kill)
    assert state.exists()
    net, loss, g, n = problem_with_noise()
    again = every(10, lambda: 1.0)
    resumed = fit(loss, net, n, steps=50, batch_size=16, generator=g, ema=ema, resume=state, after_step=again)
    assert resumed.losses == whole.losses and resumed.metrics == whole.metrics
    assert torch.equal(net.weight.detach(), expected)
    assert not state.exists()


def test_state_of_another_fit_or_a_damaged_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    state = tmp_path / "fit.state"
    net, loss, g, n = problem_with_noise()
    with pytest.raises(Killed):
        fit(loss, net, n, steps=5, generator=g, resume=state, after_step=lambda done: (_ for _ in ()).throw(Killed))
    torch.save({"model": {"other": torch.zeros(1)}}, state)
    with pytest.raises(ValueError, match="damaged or of another fit .*; remove it"):
        fit(loss, net, n, steps=5, generator=g, resume=state)
    state.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="remove it to start anew"):
        fit(loss, net, n, steps=5, generator=g, resume=state)
    assert state.exists()


@pytest.mark.parametrize(("beta", "share"), [(0.0, 1.0), (0.9, 0.01 / 0.19), (0.5, 0.25 / 0.75)])
def test_betas_are_those_of_the_optimiser(beta, share):
    """Gradients +1 and then -1: Adam's second step is minus the bias-corrected mean of both, which is -share."""
    net, signs = torch.nn.Linear(1, 1, bias=False), iter([1.0, -1.0])
    start = net.weight.item()
    fit(
        lambda i: next(signs) * net.weight.sum(),
        net,
        1,
        steps=2,
        lr=0.1,
        betas=(beta, 0.9),
        generator=torch.Generator(),
    )
    steps = [-0.1 * training.schedule(0), 0.1 * training.schedule(0.5) * share]
    assert net.weight.item() - start == pytest.approx(sum(steps), rel=1e-4)


def test_clipping_bounds_the_first_step():
    """One step of AdamW is about lr whatever the gradient; the gradient it sees is what clipping bounds."""
    x, y, net, loss, g = problem()
    fit(lambda index: 1e6 * loss(index), net, len(x), steps=1, clip=0.5, generator=g)
    assert net.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_no_bar_is_shown_without_a_label(capsys):
    x, _, net, loss, g = problem()
    fit(loss, net, len(x), steps=3, generator=g, label="shown")
    assert "shown" in capsys.readouterr().err
    history = fit(loss, net, len(x), steps=3, generator=g, label=None)
    assert capsys.readouterr().err == "" and len(history.losses) == 3


def test_after_step_is_told_the_steps():
    x, _, net, loss, g = problem()
    seen = []
    fit(loss, net, len(x), steps=4, generator=g, after_step=seen.append)
    assert seen == [1, 2, 3, 4]


def test_the_rate_rises_then_falls_to_zero():
    rates = [training.schedule(i / 1000) for i in range(1001)]
    peak = rates.index(max(rates))
    assert 15 <= peak <= 25
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_loss_that_is_not_finite():
    x, _, net, loss, g = problem()
    with pytest.raises(FloatingPointError, match="try a lower lr"):
        fit(lambda index: loss(index) * float("nan"), net, len(x), steps=5, generator=g)
    assert net.weight.detach().abs().sum() == 0  # the bad step was not taken


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"seconds": -1.0}])
def test_bad_budgets(budget):
    x, _, net, loss, g = problem()
    with pytest.raises(ValueError, match="give at least one"):
        fit(loss, net, len(x), generator=g, **budget)


def test_same_seed_same_losses():
    runs = []
    for _ in range(2):
        x, _, net, loss, g = problem()
        runs.append(fit(loss, net, len(x), steps=20, batch_size=16, generator=g).losses)
    assert runs[0] == runs[1]


def test_mlp_widths_and_activations():
    net = MLP([4, 8, 2], torch.nn.ReLU)
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert net(torch.zeros(5, 7, 4)).shape == (5, 7, 2)
    for widths in ([4], [4, 0, 2]):
        with pytest.raises(ValueError, match="widths"):
            MLP(widths)
