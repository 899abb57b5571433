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
        "engine": {"name": "kernel", "why": "as asked"},
        "left_out": {"central": "it does not fit"},
        "evaluated": {"people": 500, "of": 798},
        "segments": {
            "groups": [
                {"name": name, "from": start, "to": end, "people": 266, "asked": 200}
                for name, start, end in (("new", 1, 9), ("light", 10, 30), ("heavy", 31, 99))
            ],
            "metrics": {
                arm: {name: _measures(value) for name in ("new", "light", "heavy")}
                for arm, value in ARMS.items()
            },
        },
        "convergence": {
            "what": "train side: the latest item",
            "people": 400,
            "arms": {
                arm: [{"round": at, "hr@10": 0.01 * at, "ndcg@10": 0.01} for at in (0, 5, 10)]
                for arm in ("together-eps-8", "together-eps-8-as-is", "together-no-noise")
            },
        },
        "tasks": {
            "together-eps-8": [
                {
                    "task": "item-training",
                    "round": number,
                    "invited": 100,
                    "accepted": 80,
                    "rejected": {"too-soon": 15, "no-consent": 5},
                }
                for number in (1, 2)
            ]
        },
        "seconds": {"learning together": 41.3, "total": 66.1},
        "example": {
            "history": ["TEAPOT"],
            "before": [{"name": "MUG", "category": "kitchen", "reason": "popular", "taken": False}],
            "after": [{"name": "CUP", "category": "kitchen", "reason": "because", "taken": True}],
        },
    }
