"""A small result of a run, as the experiment gives it."""

from __future__ import annotations

from typing import Any

import pytest

ARMS = {
    "central": 0.068,
    "together-eps-8": 0.053,
    "popularity": 0.024,
    "together-eps-2": 0.046,
    "together-eps-8-as-is": 0.026,
    "together-no-noise": 0.066,
    "device-alone": 0.031,
}


def _measures(value: float) -> dict[str, Any]:
    return {
        "hr@10": {"mean": value, "std": 0.002, "seeds": 3},
        "ndcg@10": {"mean": value / 2, "std": 0.001, "seeds": 3},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """Everything that a report can show, made anew for each test."""
    protocols = {"discover": 1.0, "next": 3.0, "sampled": 8.0}
    return {
        "data": {"people": 798, "duplicates": 1125, "first_time_s": 1291193100.0},
        "settings": {"task": "item-statistics", "epsilons": [2.0, 8.0], "delta": 1e-6, "seed": 0},
        "metrics": {
            arm: {protocol: _measures(value * by) for protocol, by in protocols.items()}
            for arm, value in ARMS.items()
        },
        "privacy": {
            "adjacency": "add-or-remove one person",
            "trust": "the aggregator sees each clipped vector",
            "mechanism": "Gaussian",
            "population": {"assumed": 100_000, "real": 798},
            "releases": [
                {
                    "arm": "together-eps-8",
                    "epsilon": 7.99,
                    "delta": 1e-6,
                    "budget": 8.0,
                    "assumed": "noise as if 100,000 people took part",
                }
            ],
            "real": "With 798 real devices it finds 2.6 % of new favourites.",
        },
        "consent": {
            "granted": 702,
            "refused": 96,
            "withdrawn": 21,
            "accepted": 668,
            "rejected": {"consent-withdrawn": 21, "not-finite": 13},
        },
        "rollout": {"version": 2, "updated": 798, "hits": 160, "same_lists": 797, "asked": 798},
        "seconds": {"learning together": 41.3, "total": 66.1},
        "example": {
            "history": ["TEAPOT"],
            "before": [{"name": "MUG", "category": "kitchen", "reason": "popular", "taken": False}],
            "after": [{"name": "CUP", "category": "kitchen", "reason": "because", "taken": True}],
        },
    }
