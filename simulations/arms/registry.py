"""Every arm by name: what it knows, whom a person must trust, and how it is made.

Rules a reader can check line by line:

1. An arm learns from the training part alone, and from everybody in it: an arm that sees raw
   histories needs no consent to join, so none is subtracted.
2. An arm that spends a budget is made for one (`Budget`), and says what it claims (`Claim`). One
   that sees everything in the clear claims nothing: its ε is infinite.
3. Models of others are mixed with the device alone (`Arms.beside_alone`): in an app they would
   stand beside the person's own history, and a task of repeats would otherwise be lost by default.

>>> sorted(ARMS)[:3]
['central', 'central-dp-sgd', 'central-ials']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from privacy.budget import Budget
from privacy.events import ADJACENCY, LOCAL_ADJACENCY, LOCAL_TRUSTED, AssumedPopulation
from privacy.gaussian import composed_noise_multiplier, epsilon_of
from simulations.arms import local_statistics, private_factors
from simulations.arms.ease import EaseSettings
from simulations.arms.errors import PrivacyNotAskedError, UnknownArmError
from simulations.arms.least_squares import LeastSquaresSettings, factorise
from simulations.arms.local_statistics import LocalSettings, learn_locally, local_multipliers
from simulations.arms.material import Arms
from simulations.arms.neighbours import NeighbourSettings, similarities
from simulations.arms.private_factors import FactorSettings, learn_factors, plan_spending
from simulations.data.interactions import IntArray
from simulations.evaluation.metrics import ScoreArray, Scorer

NOT_NEEDED: Final = "nobody: nothing leaves the device"
CENTRAL_TRUSTED: Final = "the central server, which holds every raw history"
CENTRAL_RELEASED: Final = f"{CENTRAL_TRUSTED}; and everybody who sees the model"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What an arm promises a person.

    Attributes:
        epsilon: What its accountant says at ``delta``; at most the budget's.
        delta: The budget's.
        adjacency: Which two data sets are neighbours.
        trusted: Whom the claim asks one to trust.
        mechanism: What was noised, and who accounted for it.
        population: People that the noise is for.
        forecast: What every output must say where more people were assumed; else empty.
    """

    epsilon: float
    delta: float
    adjacency: str
    trusted: str
    mechanism: str
    population: int
    forecast: str

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeArm:
    """An arm, ready to be asked.

    Attributes:
        scorer: Judged by `simulations.evaluation.metrics.measure`.
        claim: None where nothing is claimed.
    """

    scorer: Scorer
    claim: Claim | None


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """How arms learn and mix; the defaults were chosen on the bundled sample.

    By ``python -m benchmarks.arms --tune``; EASE by ``python -m simulations.tune``.

    Attributes:
        ease: Of ``central``.
        neighbours: Of ``item-knn``.
        least_squares: Of ``central-ials``.
        factors: Of ``central-dp-sgd``.
        local: Of ``local-dp``.
        neighbours_weight: Of item-kNN beside the device alone.
        least_squares_weight: Of iALS beside the device alone.
        factors_weight: Of DP-SGD's factors beside the device alone.
    """

    ease: EaseSettings = field(default_factory=EaseSettings)
    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    least_squares: LeastSquaresSettings = field(default_factory=LeastSquaresSettings)
    factors: FactorSettings = field(default_factory=FactorSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    neighbours_weight: float = 0.1
    least_squares_weight: float = 0.3
    factors_weight: float = 0.03


@dataclass(frozen=True, kw_only=True)
class Request:
    """What an arm is made with.

    Attributes:
        seed: >= 0, of first factors, sampling and noise.
        settings: How arms learn.
        budget: What may be spent; None for arms that spend nothing.
        assumed: Set where the noise is that of more people than there are.
    """

    seed: int = 0
    settings: ArmSettings = field(default_factory=ArmSettings)
    budget: Budget | None = None
    assumed: AssumedPopulation | None = None

    @property
    def scale(self) -> float:
        """Simulated over assumed people, in (0, 1]."""
        return 1.0 if self.assumed is None else self.assumed.scale


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm to compare with.

    Attributes:
        name: How it is asked for.
        knows: One sentence: what it has seen.
        trusted: Whom a person must trust for it.
        private: Whether it spends a budget.
        seeded: Whether a seed changes it; else its spread is that of the targets alone.
        build: From material and request to the arm.
    """

    name: str
    knows: str
    trusted: str
    private: bool
    seeded: bool
    build: Callable[[Arms, Request], MadeArm]


def make_arm(name: str, arms: Arms, request: Request | None = None) -> MadeArm:
    """Make an arm by its name.

    Args:
        name: One of `ARMS`.
        arms: What it is made from.
        request: Seed, settings and budget; the defaults when left out.

    Raises:
        UnknownArmError: there is no such arm.
        PrivacyNotAskedError: the arm spends a budget, and none was given.
        ValueError: the assumed population is not about as many people as there are.
        LibraryMissingError: it needs an extra that is not installed.
    """
    if name not in ARMS:
        raise UnknownArmError(f"there is no arm {name[:40]!r}; expected one of {', '.join(ARMS)}")
    chosen = Request() if request is None else request
    if ARMS[name].private and chosen.budget is None:
        raise PrivacyNotAskedError(f"arm {name} spends privacy: give it a budget")
    if chosen.assumed is not None and chosen.assumed.simulated_people != arms.train.n_people:
        raise ValueError(
            f"the assumption is about {chosen.assumed.simulated_people:,} simulated people; "
            f"there are {arms.train.n_people:,} people"
        )
    return ARMS[name].build(arms, chosen)


def _in_the_clear(make: Callable[[Arms, Request], Scorer]) -> Callable[[Arms, Request], MadeArm]:
    """Say that an arm claims nothing."""
    return lambda arms, request: MadeArm(scorer=make(arms, request), claim=None)


def _central(arms: Arms, request: Request) -> Scorer:
    ease = request.settings.ease
    return arms.central(arms.ranker, ridge=ease.ridge, length_power=ease.length_power)


def _item_knn(arms: Arms, request: Request) -> Scorer:
    rows = arms.unit_rows(arms.ranker)
    alike = similarities(arms.holdings(), request.settings.neighbours)

    def score(people: IntArray) -> ScoreArray:
        found: ScoreArray = (rows[people] @ alike).toarray()
        return found

    return arms.beside_alone(score, weight=request.settings.neighbours_weight)


def _ials(arms: Arms, request: Request) -> Scorer:
    found = factorise(arms.holdings(), request.settings.least_squares, seed=request.seed)

    def score(people: IntArray) -> ScoreArray:
        scores: ScoreArray = found.people[people] @ found.items.T
        return scores

    return arms.beside_alone(score, weight=request.settings.least_squares_weight)


def _dp_sgd(arms: Arms, request: Request) -> MadeArm:
    budget, settings = _budget(request), request.settings.factors
    held = arms.holdings()
    spending = plan_spending(
        epsilon=budget.epsilon, delta=budget.delta, people=held.shape[0], settings=settings
    )
    found = learn_factors(held, spending, settings, seed=request.seed, scale=request.scale)
    scorer = arms.beside_alone(
        lambda people: found.scores(held[people]), weight=request.settings.factors_weight
    )
    return MadeArm(
        scorer=scorer,
        claim=_claim(
            budget,
            request.assumed,
            people=held.shape[0],
            epsilon=spending.epsilon(budget.delta),
            adjacency=ADJACENCY,
            trusted=CENTRAL_TRUSTED,
            mechanism=private_factors.MECHANISM,
        ),
    )


def _local(arms: Arms, request: Request) -> MadeArm:
    budget, settings = _budget(request), request.settings.local
    multipliers = local_multipliers(epsilon=budget.epsilon, delta=budget.delta, settings=settings)
    table = learn_locally(
        arms.histories,
        arms.train.n_items,
        multipliers=multipliers,
        settings=settings,
        ranker=arms.ranker,
        seed=request.seed,
        scale=request.scale,
    )
    return MadeArm(
        scorer=arms.together(table),
        claim=_claim(
            budget,
            request.assumed,
            people=len(arms.histories),
            epsilon=epsilon_of(
                delta=budget.delta, noise_multiplier=composed_noise_multiplier(multipliers)
            ),
            adjacency=LOCAL_ADJACENCY,
            trusted=LOCAL_TRUSTED,
            mechanism=local_statistics.MECHANISM,
        ),
    )


def _budget(request: Request) -> Budget:
    if request.budget is None:
        raise PrivacyNotAskedError("this arm spends privacy: give it a budget")
    return request.budget


def _claim(budget: Budget, assumed: AssumedPopulation | None, *, people: int, **said: Any) -> Claim:
    return Claim(
        delta=budget.delta,
        population=people if assumed is None else assumed.people,
        forecast="" if assumed is None else assumed.label,
        **said,
    )


_ALL: Final = (
    Arm(
        name="popularity",
        knows="how many people had each item, exactly",
        trusted=CENTRAL_RELEASED,
        private=False,
        seeded=False,
        build=_in_the_clear(lambda arms, _: arms.popularity()),
    ),
    Arm(
        name="own-frequency",
        knows="on how many occasions the person had each item",
        trusted=NOT_NEEDED,
        private=False,
        seeded=False,
        build=_in_the_clear(lambda arms, _: arms.own_frequency()),
    ),
    Arm(
        name="device-alone",
        knows="the person's own history and the public catalogue",
        trusted=NOT_NEEDED,
        private=False,
        seeded=False,
        build=_in_the_clear(lambda arms, _: arms.alone()),
    ),
    Arm(
        name="item-knn",
        knows="which items the same people had, from everyone's raw history (cosine neighbours)",
        trusted=CENTRAL_RELEASED,
        private=False,
        seeded=False,
        build=_in_the_clear(_item_knn),
    ),
    Arm(
        name="central",
        knows="everyone's raw history in one place (EASE, full rank)",
        trusted=CENTRAL_RELEASED,
        private=False,
        seeded=False,
        build=_in_the_clear(_central),
    ),
    Arm(
        name="central-ials",
        knows="everyone's raw history in one place (iALS, by the library implicit)",
        trusted=CENTRAL_RELEASED,
        private=False,
        seeded=True,
        build=_in_the_clear(_ials),
    ),
    Arm(
        name="central-dp-sgd",
        knows="everyone's raw history in one place; releases a noised table (DP-SGD, by Opacus)",
        trusted=CENTRAL_TRUSTED,
        private=True,
        seeded=True,
        build=_dp_sgd,
    ),
    Arm(
        name="local-dp",
        knows="two messages a person, each noised on the device before it was sent",
        trusted=LOCAL_TRUSTED,
        private=True,
        seeded=True,
        build=_local,
    ),
)

ARMS: Final[Mapping[str, Arm]] = MappingProxyType({arm.name: arm for arm in _ALL})
"""Name to arm, in the order of a table."""
