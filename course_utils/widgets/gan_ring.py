"""Lecture 3, the switchboard (row 3.7): remedies for a game on the ring of eight Gaussians that does not settle."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from course_utils import data, gan
from course_utils.errors import choose, require
from course_utils.metrics import mode_counts
from course_utils.plots import schemes
from course_utils.training import one_thread
from course_utils.widgets.stage import Choice, Declaration, Kernel, Range, State, Switch, Widget

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
CROSS_ENTROPIES = ("minimax", "non-saturating")
MOMENTA, TURNS = ("0.9", "0.5", "0"), ("1", "5")
PLAIN: State = {
    "loss": "non-saturating",
    "momentum": "0.9",
    "critic_steps": "1",
    "seed": 0,
    **dict.fromkeys(REMEDIES, False),
}
PRESETS = {  # what is trained for the start: rules in words -> what of PLAIN is otherwise
    "Momentum 0.9": {},
    "No momentum": {"momentum": "0"},
    "No momentum, R1 penalty": {"momentum": "0", "r1": True},
}
RING_STEPS = 2000
LOOKS = 20  # how often a training is looked at
SAMPLES = 1000
REACH = 3.2  # the plane is shown from -REACH to REACH
FIELD = 48  # cells of the background to a side


class Ring(NamedTuple):
    """What is seen of a training on the ring of eight Gaussians after `done` of `steps` steps."""

    name: str  # its rules, in words
    done: int
    steps: int
    seconds: float
    believed: str  # what the field shows
    samples: np.ndarray  # (SAMPLES, 2)
    field: np.ndarray  # (FIELD, FIELD) from 0 to 1, rows from below: D, or a critic's scores scaled to that range
    counts: np.ndarray  # (8,) samples within 3 standard deviations of a mode
    looks: np.ndarray  # (K, 3) of (steps done, modes covered, share of samples near a mode) so far


RINGS: dict[tuple, Ring] = {}  # what was trained already, by its rules


def rules_of(state: State) -> State:
    """Return the whole state of a training as numbers, the rest as in PLAIN, without labels where the loss has none.

    Raises ``ValueError`` for an unknown name or loss.
    """
    for name in state:
        choose(name, PLAIN, "rule")
    state = PLAIN | state
    rules = state | {"momentum": float(state["momentum"])} | {k: int(state[k]) for k in ("critic_steps", "seed")}
    labels = choose(state["loss"], gan.LOSSES, "loss") in CROSS_ENTROPIES
    return rules if labels else rules | dict.fromkeys(LABELS, False)


def name_of(rules: State) -> str:
    """Return the rules of a training in words."""
    remedies = [label for key, (label, _) in REMEDIES.items() if rules[key]]
    turns = [f"{rules['critic_steps']} turns of D"] if rules["critic_steps"] > 1 else []
    return ", ".join([rules["loss"], f"momentum {rules['momentum']:g}", *remedies, *turns, f"seed {rules['seed']}"])


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
        believed, field = "critic", (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-12)
    else:
        believed, field = "D", scores.sigmoid()
    looks = np.vstack([earlier, [done, modes.covered, modes.quality]])
    counts = modes.counts.numpy()
    return Ring(name_of(rules), done, steps, seconds, believed, samples.numpy(), field.numpy(), counts, looks)


def sent(ring: Ring) -> Ring:
    """Return what is seen as a page takes it: the field in bytes, 255 for 1."""
    return ring._replace(
        field=np.rint(255 * ring.field).astype(np.uint8),
        counts=ring.counts.astype(np.int32),
        looks=ring.looks.astype(np.float32),
    )


def outcome(rules: str, ring: Ring) -> str:
    """Return a training's rules and what it has come to, in words."""
    _, covered, quality = ring.looks[-1]
    return f"{rules}: {covered:.0f} of 8 modes, {100 * quality:.0f} % of the samples near one"


def trained_before(steps: int, seeds: Range) -> list[tuple[str, State]]:
    """Return (what it came to, state of the controls) of each training of so many steps that they can tell."""
    found = []
    for (*items, taken), ring in RINGS.items():
        rules = dict(items)
        state = rules | {"momentum": f"{rules['momentum']:g}", "critic_steps": f"{rules['critic_steps']}"}
        told = state["momentum"] in MOMENTA and state["critic_steps"] in TURNS and rules["seed"] <= seeds.high
        if taken == steps and told:
            found.append((outcome(ring.name, ring), state))
    return found


def declare(seed: int, steps: int) -> Declaration:
    """Return the switchboard's declaration, with PRESETS and what else was trained with so many steps."""
    start, seeds = PLAIN | {"seed": seed}, Range("seed", seed, 0, max(9, seed), 1, digits=0)
    presets = [(outcome(words, ring_result(start | rules, steps)), rules) for words, rules in PRESETS.items()]
    known = [start | rules for _, rules in presets]
    others = [(title, state) for title, state in trained_before(steps, seeds) if state not in known]

    def compute(state: State, tell: Callable[[Ring, float], None]) -> Ring:
        """Return a training by the state's rules; one that was stopped is not kept."""

        def watch(ring: Ring) -> None:
            if ring.done < steps:
                tell(sent(ring), ring.done / steps)

        return sent(ring_result(state, steps, watch))

    return Declaration(
        name="gan_ring",
        title="Remedies for a game that does not settle",
        controls={
            "loss": Choice("loss", start["loss"], {loss: loss for loss in gan.LOSSES}),
            "momentum": Choice("momentum", start["momentum"], {v: v for v in MOMENTA}),
            "critic_steps": Choice("turns of D", start["critic_steps"], {v: v for v in TURNS}),
            "seed": seeds,
            **{
                key: Switch(label, when={"loss": CROSS_ENTROPIES} if key in LABELS else {})
                for key, (label, _) in REMEDIES.items()
            },
        },
        compute=compute,
        kernel=Kernel(of=tuple(start), sprites=presets + others, press="Train"),
        presets=presets,
        surprise={"loss": gan.LOSSES, "momentum": MOMENTA, **dict.fromkeys(REMEDIES, (False, False, False, True))},
        alt=(
            f"Three trainings of {steps:,} steps on a ring of eight Gaussians: samples over the data and over what the "
            "discriminator believes, modes covered and share of samples near a mode over the steps, samples near each "
            f"mode. {'. '.join(title for title, _ in presets)}."
        ),
        colours=schemes("p", "q", "good", "grey"),
        constants={
            "steps": steps,
            "reach": REACH,
            "places": (1.4 * gan.RING.means).tolist(),  # of the modes' numbers
            "even": SAMPLES // 8,  # samples of each mode, were the shares even
            "tops": [300, 600, SAMPLES],  # of the scale of samples
            "belief": (["#f8d6bd", "#fbfbfb", "#b5d8ee"], ["#4a2a12", "#1c1c1c", "#143d59"]),  # on light, on dark
            "words": {
                "plane": "Samples of the generator and data in the plane, over the discriminator's belief.",
                "course": "Modes covered and share of samples near a mode over the steps of the training.",
                "bars": "Samples near each of the eight modes, counted from the right, anticlockwise.",
            },
        },
        assets={"data": gan.RING.sample(SAMPLES, data.generator(0)).numpy().astype(np.float32).tobytes()},
        hint="Train takes some seconds · Tab to a control, arrow keys move it · double click: back to the start.",
    )


def switchboard(seed: int = 0, steps: int = RING_STEPS) -> Widget:
    """Return the switchboard: rules of the game on the ring of eight Gaussians, and what a training by them comes to.

    Trains by three rules at once, unless ``ring_result`` has already. `seed` is that of "Surprise me" and, at the
    start, of the training. Raises ``ValueError`` for fewer than 20 steps.
    """
    return Widget(declare(seed, steps), seed)
