"""What an attack on pictures is, in numbers and words, and the options of the programs that run one.

The defaults are those of [VARS, Table 1.2] and of the authors' releases: PGD of five steps of half a radius, the radius
1/255.
"""

import argparse
from typing import Literal, NamedTuple

Norm = Literal["linf", "l2"]
METHODS = ("fgsm", "pgd")
PGD_STEPS = 5
STEP_SHARE = 0.5


class Attack(NamedTuple):
    """One way to change pictures; ``evaluation.attacks`` runs it."""

    norm: Norm
    eps: float  # radius of the ball around a picture, in pixel values of [0, 1]
    step: float  # length of a step, likewise
    steps: int
    random_start: bool  # somewhere in the ball, instead of at the picture
    targeted: bool = False  # towards a label, instead of away from one
    restarts: int = 1  # times that it is run; the worst counts
    seed: int = 0  # of the random starts

    @property
    def words(self) -> str:
        """All of it, for people."""
        radius, step = (_length(value, self.norm) for value in (self.eps, self.step))
        if not self.random_start:
            return f"FGSM, one step of {step} in the {self.norm} ball" + self._aim
        starts = "a random start" if self.restarts == 1 else f"the worst of {self.restarts} random starts"
        return f"PGD, {self.steps} steps of {step} in the {self.norm} ball of {radius}, {starts}" + self._aim

    @property
    def _aim(self) -> str:
        return ", towards the least likely label" if self.targeted else ""


def fgsm(eps: float, targeted: bool = False) -> Attack:
    """One step to the edge of the ball: Goodfellow et al., ICLR 2015, arXiv:1412.6572."""
    return Attack("linf", eps, step=eps, steps=1, random_start=False, targeted=targeted)


def pgd(
    eps: float,
    steps: int = PGD_STEPS,
    step_share: float = STEP_SHARE,
    norm: Norm = "linf",
    *,
    targeted: bool = False,
    restarts: int = 1,
    seed: int = 0,
) -> Attack:
    """Steps of ``step_share`` radii from a random start: Madry et al., ICLR 2018, arXiv:1706.06083."""
    return Attack(norm, eps, step_share * eps, steps, True, targeted, restarts, seed)


def add_attack_options(parser: argparse.ArgumentParser, several: bool) -> None:
    """``--attack`` and what shapes it, for a program that judges pictures.

    Args:
        several: more than one radius and number of steps may be given.
    """
    many = "+" if several else 1
    parser.add_argument("--attack", choices=METHODS, help="judge pictures that were changed to mislead the checkpoint")
    parser.add_argument(
        "--eps", type=float, metavar="E", default=[1.0], nargs=many,
        help="radius: in 1/255 of the range of pixels for linf, for l2 the length for pixels in [0, 1] (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, metavar="N", default=[PGD_STEPS], nargs=many, help=f"of pgd (default: {PGD_STEPS})"
    )
    parser.add_argument(
        "--step-share", type=float, metavar="S", default=STEP_SHARE, help="length of a step in radii (default: 0.5)"
    )
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf", help="the ball (default: linf)")
    parser.add_argument(
        "--restarts", type=int, metavar="N", default=1, help="random starts, the worst counts (default: 1)"
    )
    parser.add_argument("--targeted", action="store_true", help="move towards the label that is least likely at first")
    parser.add_argument("--attack-seed", type=int, metavar="N", default=0, help="of the random starts (default: 0)")


def attacks_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[Attack]:
    """The attacks that the options ask for, every radius with every number of steps; none without ``--attack``.

    Options that say nothing together are complained of.
    """
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("eps", "steps", "step_share", "norm", "restarts", "targeted", "attack_seed")
        if getattr(arguments, name) != parser.get_default(name)
    ]
    if arguments.attack is None:
        if given:
            parser.error(f"{given[0]} is about --attack, which is not given")
        return []
    _check_numbers(parser, arguments)
    radii = [eps / 255 if arguments.norm == "linf" else eps for eps in arguments.eps]
    if arguments.attack == "fgsm":
        idle = [name for name in given if name not in ("--eps", "--targeted")]
        if idle:
            parser.error(f"{idle[0]} is about --attack pgd; fgsm is one step to the edge of the linf ball")
        return [fgsm(eps, arguments.targeted) for eps in radii]
    return [
        pgd(
            eps, steps, arguments.step_share, arguments.norm,
            targeted=arguments.targeted, restarts=arguments.restarts, seed=arguments.attack_seed,
        )
        for eps in radii
        for steps in arguments.steps
    ]  # fmt: skip


def _check_numbers(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    for option, values, lowest in (
        ("--steps", arguments.steps, 1), ("--restarts", [arguments.restarts], 1),
        ("--attack-seed", [arguments.attack_seed], 0),
    ):  # fmt: skip
        if min(values, default=lowest) < lowest:
            parser.error(f"{option} must be at least {lowest}, got {min(values)}")
    for option, values in (("--eps", arguments.eps), ("--step-share", [arguments.step_share])):
        for value in values:
            if not 0 < value < float("inf"):
                parser.error(f"{option} must be above 0, got {value}")


def _length(value: float, norm: Norm) -> str:
    return f"{255 * value:.4g}/255" if norm == "linf" else f"{value:.4g}"
