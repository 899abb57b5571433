"""When a device works for others: each condition, and what an unknown one counts as."""

from collections.abc import Callable
from typing import Any

import pytest

from client_sdk import Homebody
from client_sdk.federation.eligibility import EligibilityRules, conditions_now, refusal_of
from client_sdk.ports import Conditions
from client_sdk.testing import FakeAggregator, FakeConditions
from client_sdk.wire import (
    Catalogue,
    Contribution,
    Declined,
    Refusal,
    TaskKind,
    read_answer,
    read_frame,
)

OpenHome = Callable[..., Homebody]
COUNTS = TaskKind.ITEM_COUNTS

NOT_NOW = [
    ({"idle": False}, Refusal.NOT_IDLE),
    ({"idle": None}, Refusal.NOT_IDLE),
    ({"charging": False}, Refusal.NOT_CHARGING),
    ({"charging": None}, Refusal.NOT_CHARGING),
    ({"unmetered": False}, Refusal.METERED),
    ({"unmetered": None}, Refusal.METERED),
    ({"free_bytes": 1}, Refusal.LOW_STORAGE),
    ({"free_bytes": None}, Refusal.LOW_STORAGE),
]


class BrokenConditions:
    """A platform whose adapter fails."""

    def now(self) -> Conditions:
        """Fail."""
        raise OSError("no such service")


def agreed(open_home: OpenHome, **options: Any) -> Homebody:
    """Open a device whose person agreed to everything and bought one thing."""
    home = open_home(**options)
    home.consent.grant("personalise", "train", "statistics")
    home.track("purchase", item="mug")
    return home


@pytest.mark.parametrize(("changes", "reason"), NOT_NOW)
def test_participant_at_a_bad_moment_refuses_with_the_reason(
    changes: dict[str, Any],
    reason: Refusal,
    open_home: OpenHome,
    aggregator: FakeAggregator,
    catalogue: Catalogue,
) -> None:
    """Invitation and order are both refused, unknown counts as no, and it is over when it is."""
    conditions = FakeConditions()
    home = agreed(open_home, conditions=conditions)
    order = aggregator.order(COUNTS, catalogue)
    conditions.set(**changes)
    for frame in (aggregator.invite(order), aggregator.ask(order)):
        answer = read_answer(read_frame(home.answer(frame)))
        assert isinstance(answer, Declined)
        assert answer.reason is reason
    assert "declined" in home.transparency()[-1].sentence()
    assert "not allowed" not in home.transparency()[-1].sentence()
    conditions.set(idle=True, charging=True, unmetered=True, free_bytes=2**40)
    assert isinstance(read_answer(read_frame(home.answer(aggregator.ask(order)))), Contribution)


def test_participant_platform_that_fails_counts_as_no(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Fail closed: what raises has said nothing."""
    home = agreed(open_home, conditions=BrokenConditions())
    answer = read_answer(
        read_frame(home.answer(aggregator.ask(aggregator.order(COUNTS, catalogue))))
    )
    assert isinstance(answer, Declined)
    assert answer.reason is Refusal.NOT_IDLE
    assert conditions_now(BrokenConditions()) == Conditions()


def test_participant_with_less_than_the_minimum_of_data_refuses(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """An app may ask for more history than one item."""
    home = agreed(open_home, eligibility=EligibilityRules(min_items=2))
    order = aggregator.order(COUNTS, catalogue)
    answer = read_answer(read_frame(home.answer(aggregator.invite(order))))
    assert isinstance(answer, Declined)
    assert answer.reason is Refusal.TOO_LITTLE_DATA
    home.track("purchase", item="honey")
    assert isinstance(read_answer(read_frame(home.answer(aggregator.ask(order)))), Contribution)


def test_refusal_of_rules_that_do_not_ask_lets_everything_pass() -> None:
    """An operator may allow a device in use, on battery, on a paid network, with a full disk."""
    relaxed = EligibilityRules(idle=False, charging=False, unmetered=False, min_free_bytes=0)
    assert refusal_of(Conditions(), relaxed) is None


@pytest.mark.parametrize("changes", [{"min_items": 0}, {"min_free_bytes": -1}])
def test_rules_out_of_bounds_are_refused(changes: dict[str, int]) -> None:
    """An empty history is never a contribution."""
    with pytest.raises(ValueError, match="at least"):
        EligibilityRules(**changes)
