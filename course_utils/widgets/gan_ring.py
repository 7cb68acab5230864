"""Lecture 3, the switchboard (row 3.7): remedies for a game on the ring of eight Gaussians that does not settle."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from course_utils import data, gan
from course_utils.errors import choose, require
from course_utils.metrics import mode_counts
from course_utils.plots import COLOURS, figure
from course_utils.training import Interrupted
from course_utils.widgets.gan_parts import WIDTH, legend_above, second_scale
from course_utils.widgets.shell import Explorer, State, one_thread

REMEDIES = {  # control -> (label, what it is in a Game; spectral norm belongs to the network)
    "r1": ("R1 penalty", {"r1": 0.3}),
    "gp": ("gradient penalty", {"gp": 1.0}),
    "spectral": ("spectral norm", {}),
    "smooth": ("label smoothing", {"smooth": 0.1}),
    "noise": ("label noise", {"noise": 0.1}),
    "flip": ("label flips", {"flip": 0.05}),
    "blur": ("blur", {"blur": 0.1}),
}
LABELS = ("smooth", "noise", "flip")  # what only a cross-entropy has
PLAIN: State = {
    "loss": "non-saturating",
    "momentum": 0.9,
    "critic_steps": 1,
    "seed": 0,
    **dict.fromkeys(REMEDIES, False),
}
RING_STEPS = 2000
LOOKS = 20  # how often a training is looked at
SAMPLES = 1000
REACH = 3.2  # the plane is shown from -REACH to REACH
FIELD = 48  # cells of the background to a side
TALLEST = 300  # samples of the highest bar; its label says how many there are


class Ring(NamedTuple):
    """What is seen of a training on the ring of eight Gaussians after `done` of `steps` steps."""

    name: str  # its rules, in words
    done: int
    steps: int
    seconds: float
    samples: np.ndarray  # (SAMPLES, 2)
    field: np.ndarray  # (FIELD, FIELD) from 0 to 1: D, or a critic's scores scaled to that range
    counts: np.ndarray  # (8,) samples within 3 standard deviations of a mode
    looks: np.ndarray  # (K, 3) of (steps done, modes covered, share of samples near a mode) so far


RINGS: dict[tuple, Ring] = {}  # what was trained already, by its rules


def rules_of(state: State) -> State:
    """Return the whole state of a training, the rest as in PLAIN, without labels where the loss has none.

    Raises ``ValueError`` for an unknown name or loss.
    """
    for name in state:
        choose(name, PLAIN, "rule")
    state = PLAIN | state
    labels = choose(state["loss"], gan.LOSSES, "loss") in ("minimax", "non-saturating")
    return state if labels else state | dict.fromkeys(LABELS, False)


def name_of(state: State) -> str:
    """Return the rules of a training in words."""
    remedies = [label for key, (label, _) in REMEDIES.items() if state[key]]
    turns = [f"{state['critic_steps']} turns of D"] if state["critic_steps"] > 1 else []
    return ", ".join([state["loss"], f"momentum {state['momentum']:g}", *remedies, *turns, f"seed {state['seed']}"])


def ring_result(
    state: State | None = None, steps: int = RING_STEPS, watch: Callable[[Ring], None] | None = None
) -> Ring:
    """Return a training on the ring by these rules, the rest as in PLAIN; one that was run before is not run again.

    ``watch(what is seen)`` is called after the first step and each twentieth of them. Ctrl-C raises ``Interrupted``;
    such a training is not kept. Raises ``ValueError`` for an unknown rule, ``FloatingPointError`` where the loss is no
    longer finite.
    """
    rules = rules_of(state or {})
    key = (*rules.items(), steps)
    if key not in RINGS:
        RINGS[key] = train_ring(rules, steps, watch or (lambda ring: None))
    return RINGS[key]


def train_ring(rules: State, steps: int, watch: Callable[[Ring], None]) -> Ring:
    """Train by these rules and return what is seen at the end."""
    require(steps >= LOOKS, f"steps = {steps}; at least {LOOKS} are needed")
    remedies = {name: value for key, (_, part) in REMEDIES.items() if rules[key] for name, value in part.items()}
    game = gan.Game(rules["loss"], critic_steps=rules["critic_steps"], **remedies)
    start, rings = time.perf_counter(), []

    def look(done: int, players: gan.GAN) -> None:
        if done == 1 or done % (steps // LOOKS) == 0 or done == steps:
            earlier = rings[-1].looks if rings else np.zeros((0, 3))
            rings.append(see(players, rules, done, steps, time.perf_counter() - start, earlier))
            watch(rings[-1])

    with one_thread():
        gan.play_ring(game, rules["seed"], steps, rules["momentum"], rules["spectral"], look, label=None)
    return rings[-1]


@torch.no_grad()
def see(players: gan.GAN, rules: State, done: int, steps: int, seconds: float, earlier: np.ndarray) -> Ring:
    """Return what is seen of the players now; `earlier` are the looks before."""
    samples = players.sample(SAMPLES, data.generator(rules["seed"]))  # of the same latents at each look
    modes = mode_counts(samples, gan.RING)
    axis = (torch.arange(FIELD) + 0.5) / FIELD * 2 * REACH - REACH
    plane = torch.cartesian_prod(axis, axis).flip(-1)  # row by row from below
    mode = players.training
    scores = players.eval().logits(plane).view(FIELD, FIELD)
    players.train(mode)
    if rules["loss"] == "wasserstein":  # a score has no scale of its own
        field = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-12)
    else:
        field = scores.sigmoid()
    looks = np.vstack([earlier, [done, modes.covered, modes.quality]])
    counts = modes.counts.numpy()
    return Ring(name_of(rules), done, steps, seconds, samples.numpy(), field.numpy(), counts, looks)


BELIEF = LinearSegmentedColormap.from_list("belief", ["#f3c9a9", "#fbfbfb", "#a9cfe8"])


def make_ring_figure(steps: int, height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return the switchboard's figure and the artists that ``draw_ring`` moves."""
    fig, panels = figure(
        2, 2, width=WIDTH, height=height or 4.4, gridspec_kw={"width_ratios": [1, 1.15], "height_ratios": [1.2, 1]}
    )
    (plane, course), (spare, bars) = panels
    spare.remove()
    plane.set_subplotspec(plane.get_gridspec()[:, 0])
    moving = {"animated": True}
    real = gan.RING.sample(SAMPLES, data.generator(0))
    field = plane.imshow(
        np.full((FIELD, FIELD), 0.5),
        origin="lower",
        extent=(-REACH, REACH) * 2,
        cmap=BELIEF,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        **moving,
    )
    plane.scatter(*real.T, s=5, lw=0, color=COLOURS["grey"], alpha=0.5, label="data", **moving)
    samples = plane.scatter([0], [0], s=5, lw=0, color=COLOURS["q"], alpha=0.8, label="samples", **moving)
    plane.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    plane.grid(False)
    plane.set_xlabel("background: D, from low (orange) to high (blue)", fontsize=9)
    plane.legend(loc="lower left", bbox_to_anchor=(-0.03, 0.99), ncols=2, markerscale=2, handletextpad=0.2)

    quality = course.twinx()
    line = {"lw": 1.8, "ms": 4, **moving}
    artists = {"samples": samples, "field": field}
    artists["covered"] = course.step([0], [0], where="post", color=COLOURS["p"], label="modes covered", **line)[0]
    artists["quality"] = quality.plot([0], [0], "o-", color=COLOURS["good"], label="quality", **line)[0]
    course.set(xlim=(0, steps), ylim=(0, 8.6), yticks=[0, 2, 4, 6, 8], xlabel="steps", ylabel="modes")
    course.xaxis.set_major_formatter("{x:,.0f}")
    course.locator_params(axis="x", nbins=5)
    legend_above(course, [artists["covered"], artists["quality"]])
    second_scale(quality, COLOURS["good"], (0, 1.075), [0, 0.5, 1])
    artists["bars"] = list(bars.bar(range(8), 0, width=0.7, color=COLOURS["q"]))
    for bar in artists["bars"]:
        bar.set_animated(True)
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    artists["labels"] = [
        bars.text(k, 0, "", ha="center", va="bottom", fontsize=9, path_effects=halo, **moving) for k in range(8)
    ]
    bars.axhline(SAMPLES / 8, color=COLOURS["grey"], lw=1.2, ls="--")
    bars.set(xlim=(-0.6, 7.6), ylim=(0, 1.25 * TALLEST), xlabel="mode, from the right, anticlockwise", ylabel="samples")
    bars.set_xticks(range(8))
    bars.grid(False, axis="x")
    return fig, artists


def draw_ring(artists: dict[str, Any], ring: Ring) -> None:
    """Show the players at this look, and all looks so far."""
    artists["samples"].set_offsets(ring.samples)
    artists["field"].set_data(ring.field)
    done, covered, quality = ring.looks.T
    artists["covered"].set_data(done, covered)
    artists["quality"].set_data(done, quality)
    for bar, label, count in zip(artists["bars"], artists["labels"], ring.counts, strict=True):
        height = min(count, TALLEST)
        bar.set_height(height)
        label.set(y=height, text=f"{count}")


def read_ring(ring: Ring) -> str:
    """Return what a training has come to as a line of HTML."""
    _, covered, quality = ring.looks[-1]
    how = f"after {ring.done:,} of {ring.steps:,} steps" if ring.done < ring.steps else f"{ring.seconds:.0f} s"
    return f"<b>{covered:.0f} of 8 modes, quality {quality:.2f}</b> · {ring.name} · {how}"


class Switchboard(Explorer):
    """An explorer that computes only when told to: a control shows what was trained by these rules before, if any."""

    def __init__(self, steps: int, **parts: Any):
        self.steps = steps
        super().__init__(compute=lambda state: ring_result(state, steps), actions={"Train": self._train}, **parts)

    def _redraw(self) -> None:
        if (*rules_of(self.state).items(), self.steps) in RINGS:
            super()._redraw()
            return
        for name, on in self._enabled(self.state).items():
            self.controls[name].disabled = not on
        name = name_of(rules_of(self.state))
        if name == self.numbers.name:  # a training that was stopped on its way
            self.readout.value = read_ring(self.numbers)
        else:
            self.readout.value = f"<b>Press Train</b> for {name} · the picture still shows {self.numbers.name}"

    def _train(self, state: State) -> State:
        """Train by the state's rules and show each look; nothing of the state changes."""
        with suppress(Interrupted):  # what was seen so far is shown; a button has no cell to stop
            ring_result(state, self.steps, self._show)
        return {}

    def _show(self, ring: Ring) -> None:
        self.numbers = ring
        self._draw(self._artists, ring)
        self.image.value = self._picture.frame()
        self.readout.value = read_ring(ring)


def switchboard(seed: int = 0, steps: int = RING_STEPS) -> Switchboard:
    """Return the switchboard: rules of the game on the ring of eight Gaussians, and what a training by them comes to.

    Trains for its saved picture by three rules, unless ``ring_result`` has already. `seed` is that of "Surprise me"
    and, at the start, of the training. Raises ``ValueError`` for fewer than 20 steps.
    """
    presets = {
        "Momentum 0.9: the samples run after the discriminator and never settle": {},
        "One remedy, no momentum: the modes are found": {"momentum": 0.0},
        "And the R1 penalty: all modes as well": {"momentum": 0.0, "r1": True},
    }
    start = PLAIN | {"seed": seed}
    for rules in presets.values():
        ring_result(start | rules, steps)
    switches = {
        key: widgets.Checkbox(value=False, description=label, indent=False) for key, (label, _) in REMEDIES.items()
    }
    return Switchboard(
        steps=steps,
        title="Remedies for a game that does not settle",
        controls={
            "loss": widgets.Dropdown(options=gan.LOSSES, value=start["loss"], description="loss"),
            "momentum": widgets.Dropdown(options=[("0.9", 0.9), ("0.5", 0.5), ("0", 0.0)], description="momentum"),
            "critic_steps": widgets.Dropdown(options=[("1", 1), ("5", 5)], description="turns of D"),
            "seed": widgets.IntSlider(value=seed, min=0, max=max(9, seed), description="seed"),
            **switches,
        },
        make_figure=lambda height=None: make_ring_figure(steps, height and 1.2 * height),
        draw=draw_ring,
        readout=read_ring,
        presets=presets.items(),
        surprise=surprise_ring,
        enabled=lambda state: dict.fromkeys(LABELS, state["loss"] in ("minimax", "non-saturating")),
        alt=(
            "Three trainings on a ring of eight Gaussians: samples over the data and the discriminator's belief, modes "
            "covered and quality over the steps, samples near each mode. With momentum 0.9 the samples stay in one "
            "cloud; without momentum they reach all eight modes, unevenly and with many samples between "
            "them; with the R1 penalty besides they reach all eight as well."
        ),
        seed=seed,
    )


def surprise_ring(rng: np.random.Generator) -> State:
    """Return random rules with one or two remedies."""
    chosen = rng.choice(list(REMEDIES), size=rng.integers(1, 3), replace=False)
    return {
        **PLAIN,
        "loss": str(rng.choice(gan.LOSSES)),
        "momentum": float(rng.choice([0.9, 0.5, 0.0])),
        **{str(key): True for key in chosen},
    }
