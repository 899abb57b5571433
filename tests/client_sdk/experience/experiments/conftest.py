"""One experiment on a shelf, and how to make others."""

from collections.abc import Callable
from typing import Any

import pytest

from client_sdk.experience.experiments import Arm, Experiment, Guard, Metric

DAY_S = 86_400.0
START_S = 1_800_000_000.0

MakeExperiment = Callable[..., Experiment]


@pytest.fixture(scope="session")
def make() -> MakeExperiment:
    """Make an experiment of two arms; any field may be given."""

    def made(**changes: Any) -> Experiment:
        fields: dict[str, Any] = {
            "name": "linen-first",
            "arms": (Arm(name="control"), Arm(name="linen")),
            "metrics": (
                Metric(name="bought", event="purchase", window_s=7 * DAY_S),
                Metric(
                    name="spent",
                    event="purchase",
                    value="amount",
                    bound=50.0,
                    window_s=14 * DAY_S,
                ),
            ),
            "guards": (
                Guard(name="dismissed", event="message_dismissed", limit=2, window_s=DAY_S),
            ),
            "start_s": START_S,
            "end_s": START_S + 60 * DAY_S,
            **changes,
        }
        return Experiment(**fields)

    return made
