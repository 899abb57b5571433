"""The stated ε: that it comes from all accountants, and that a wrong one is noticed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from client_sdk.wire import TaskKind
from privacy.accounting import Bounds, epsilon_exact, epsilon_pld, epsilon_rdp, prv_bounds
from privacy.errors import AccountantsDisagreeError
from privacy.events import ADJACENCY, TRUSTED, MechanismName, NoiseSource, ReleaseEvent
from privacy.statement import Accountants, statement

GAUSSIAN = ReleaseEvent(
    kind=TaskKind.ITEM_STATISTICS,
    task_id="ab" * 16,
    population="shop",
    noise_multiplier=5.0,
    clip_norm=1.0,
    dimension=5,
    report_goal=10,
)
LAPLACE = replace(GAUSSIAN, mechanism=MechanismName.DISCRETE_LAPLACE)
DISCRETE = replace(GAUSSIAN, mechanism=MechanismName.DISCRETE_GAUSSIAN)
SAMPLED = replace(GAUSSIAN, sampling_probability=0.1)
NO_NOISE = replace(
    GAUSSIAN,
    mechanism=MechanismName.UNSAFE_NO_NOISE,
    noise_multiplier=0.0,
    noise_source=NoiseSource.NONE,
)
DELTA = 1e-6


def without_opacus(events: Sequence[ReleaseEvent], delta: float) -> Bounds:  # noqa: ARG001
    """An installation without the extra."""
    raise ModuleNotFoundError("No module named 'opacus'", name="opacus.accountants")


class TestStatement:
    """What is stated."""

    @pytest.mark.parametrize(
        "events",
        [
            [],
            [GAUSSIAN],
            [GAUSSIAN, LAPLACE, LAPLACE],
            [GAUSSIAN, DISCRETE, SAMPLED, LAPLACE],
            [DISCRETE],
            [LAPLACE],
            [SAMPLED] * 5,
        ],
    )
    def test_statement_of_any_composition_has_every_accountants_number(
        self, events: list[ReleaseEvent]
    ) -> None:
        """And states that of PLD."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        found = statement(events, DELTA)
        assert found.epsilon == epsilon_pld(events, DELTA)
        assert found.epsilon_exact == epsilon_exact(events, DELTA)
        assert found.epsilon_rdp == epsilon_rdp(events, DELTA)
        bounds = prv_bounds(events, DELTA)
        assert (found.epsilon_prv_lower, found.epsilon_prv_bound) == (bounds.lower, bounds.upper)
        assert found.releases == len(events)

    def test_statement_names_adjacency_trust_and_assumptions(self) -> None:
        """A number without them is no claim."""
        found = statement([GAUSSIAN, SAMPLED], DELTA, accountants=Accountants(prv=without_opacus))
        assert found.adjacency == (ADJACENCY,)
        assert found.trusted == (TRUSTED,)
        assert found.assumes == SAMPLED.assumes
        assert not found.simulation

    def test_statement_without_noise_is_infinite_and_still_plain_json(self) -> None:
        """JSON has no infinity."""
        found = statement([GAUSSIAN, NO_NOISE], DELTA)
        assert found.epsilon == math.inf
        stored = json.dumps(found.to_values(), allow_nan=False)
        assert json.loads(stored)["epsilon_pld"] == "infinite"

    def test_statement_without_opacus_has_no_bound(self) -> None:
        """Nobody's number is put in its place."""
        found = statement([GAUSSIAN], DELTA, accountants=Accountants(prv=without_opacus))
        assert found.epsilon_prv_bound is None
        assert found.epsilon == epsilon_pld([GAUSSIAN], DELTA)

    def test_statement_with_another_module_missing_is_not_hidden(self) -> None:
        """Only Opacus is optional."""

        def broken(events: Sequence[ReleaseEvent], delta: float) -> Bounds:  # noqa: ARG001
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

        with pytest.raises(ModuleNotFoundError, match="scipy"):
            statement([GAUSSIAN], DELTA, accountants=Accountants(prv=broken))


class TestRefusal:
    """Each accountant in turn is wrong."""

    @pytest.mark.parametrize("factor", [0.97, 1.03])
    @pytest.mark.parametrize("events", [[GAUSSIAN], [GAUSSIAN, LAPLACE]])
    def test_pld_that_is_three_percent_wrong_is_noticed(
        self, factor: float, events: list[ReleaseEvent]
    ) -> None:
        """By the exact curve, without Opacus."""
        wrong = Accountants(
            pld=lambda events, delta: factor * epsilon_pld(events, delta), prv=without_opacus
        )
        with pytest.raises(AccountantsDisagreeError, match="exact curve"):
            statement(events, DELTA, accountants=wrong)

    @pytest.mark.parametrize("factor", [0.9, 1.1])
    def test_pld_of_a_sampled_run_that_is_wrong_is_noticed_by_opacus(self, factor: float) -> None:
        """No exact curve is known there."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        wrong = Accountants(pld=lambda events, delta: factor * epsilon_pld(events, delta))
        with pytest.raises(AccountantsDisagreeError, match="Opacus"):
            statement([SAMPLED] * 10, DELTA, accountants=wrong)

    def test_renyi_below_the_stated_epsilon_is_noticed(self) -> None:
        """It can only lie above."""
        wrong = Accountants(
            rdp=lambda events, delta: 0.9 * epsilon_pld(events, delta), prv=without_opacus
        )
        with pytest.raises(AccountantsDisagreeError, match="Rényi"):
            statement([GAUSSIAN], DELTA, accountants=wrong)

    @pytest.mark.parametrize("nonsense", [math.nan, -1.0])
    def test_number_that_is_no_epsilon_is_noticed(self, nonsense: float) -> None:
        """NaN compares as nothing; it must not pass for that."""
        wrong = Accountants(
            pld=lambda events, delta: nonsense,  # noqa: ARG005
            exact=lambda events, delta: None,  # noqa: ARG005
            prv=without_opacus,
        )
        with pytest.raises(AccountantsDisagreeError, match="state nothing"):
            statement([GAUSSIAN], DELTA, accountants=wrong)

    def test_nan_of_a_cross_check_is_noticed(self) -> None:
        """A check that cannot be made has failed."""
        wrong = Accountants(rdp=lambda events, delta: math.nan, prv=without_opacus)  # noqa: ARG005
        with pytest.raises(AccountantsDisagreeError):
            statement([GAUSSIAN], DELTA, accountants=wrong)
