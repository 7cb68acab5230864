"""The fit loop against a least-squares problem with a known answer."""

import pytest
import torch

from course_utils import training
from course_utils.nn import EMA, MLP
from course_utils.training import Interrupted, adamw, every, fit, steps

ZERO = torch.Generator()


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
    assert len(history.losses) == 600 and history.steps[-1] == (600, history.losses[-1], 1.0)


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

    with pytest.raises(Interrupted, match="encoder: interrupted after 7 of 100 steps") as stopped:
        fit(interrupted, net, len(x), steps=100, lr=0.1, generator=g, label="encoder")
    assert len(stopped.value.history.losses) == 7
    assert net.weight.detach().abs().sum() > 0
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert "run this cell from the start again" in "\n".join(stopped.value._render_traceback_())


def test_ctrl_c_before_the_first_step():
    x, _, net, _, g = problem()

    def interrupted(index):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted after 0 of all steps") as stopped:
        fit(interrupted, net, len(x), steps=100, generator=g)
    assert stopped.value.history.losses == []


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
    assert "a &lt;b&gt;" in shown[0] and "0%" in shown[0]
    assert shown[-1] == ""


def test_metrics_are_kept_with_their_steps():
    x, _, net, loss, g = problem()
    values = iter([0.5, 0.25])
    history = fit(loss, net, len(x), steps=7, generator=g, after_step=every(3, lambda: next(values)))
    assert history.metrics == [(3, 0.5), (6, 0.25)]
    with pytest.raises(ValueError, match="every 1 step or more"):
        every(0, list)


def test_the_average_of_the_weights_is_what_the_formula_says():
    """w <- decay w + (1 - decay) model, the decay at most (1 + n)/(10 + n) in step n; in the body of a loop."""
    x, _, net, loss, g = problem()
    average, expected = EMA(net, 0.9), net.weight.detach().double()
    for step in steps(loss, adamw(net, 0.05), len(x), steps=30, generator=g):
        average.update(net)
        decay = min(0.9, (1 + step.done) / (10 + step.done))
        expected = decay * expected + (1 - decay) * net.weight.detach().double()
    average.copy_to(net)
    torch.testing.assert_close(net.weight.detach().double(), expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="decay = 1"):
        EMA(net, 1)


def test_steps_that_go_on_are_those_that_never_stopped():
    """The noise of each loss comes from the generator, as a VAE has it."""
    ends = []
    for parts in ([50], [23, 50]):
        x, y, net, _, g = problem()

        def loss(index, net=net, x=x, y=y, g=g):
            return (net(x[index])[:, 0] - y[index] + torch.randn(len(index), generator=g)).square().mean()

        optimiser, done, seen = adamw(net, 0.05), 0, []
        for until in parts:
            for step in steps(loss, optimiser, len(x), steps=50, batch_size=16, generator=g, done=done):
                seen.append(step)
                if step.done == until:
                    break
            done = until
        ends.append((net.weight.detach().clone(), seen))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


@pytest.mark.parametrize(("beta", "share"), [(0.0, 1.0), (0.9, 0.01 / 0.19), (0.5, 0.25 / 0.75)])
def test_betas_are_those_of_the_optimiser(beta, share):
    """Gradients +1 and then -1: Adam's second step is minus the bias-corrected mean of both, which is -share."""
    net, signs = torch.nn.Linear(1, 1, bias=False), iter([1.0, -1.0])
    start = net.weight.item()
    list(steps(lambda i: next(signs) * net.weight.sum(), adamw(net, 0.1, (beta, 0.9)), 1, steps=2, generator=ZERO))
    moved = [-0.1 * training.schedule(0), 0.1 * training.schedule(0.5) * share]
    assert net.weight.item() - start == pytest.approx(sum(moved), rel=1e-4)


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


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    """One step of gradient descent at rate 1, past the warm-up, moves the weights by the gradient."""
    for clip, moved in ((None, 5.0), (10.0, 5.0), (0.5, 0.5)):
        weight = torch.nn.Parameter(torch.zeros(2))
        optimiser, slope = torch.optim.SGD([weight], lr=1.0), torch.tensor([3.0, -4.0])
        n = 1000
        taken = steps(lambda i: weight @ slope, optimiser, 1, steps=n, done=n // 2, generator=ZERO, clip=clip)  # noqa: B023
        next(taken)
        assert weight.detach().norm().item() == pytest.approx(moved * 0.5, rel=1e-4)  # half way the rate is half of 1


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
