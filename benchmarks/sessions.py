"""Does a list that heeds the session find more of it? From popularity to a session to a person.

    python -m benchmarks.sessions [--validation] [--json FILE]

The bundled sample of Online Retail has no clicks: an invoice of two or more items stands for a
session. A random part of each person's held-out invoice (one to five items, never all) is what they
took in the last minutes; asked is one of the others:

- ``discover``: HR@10 for an item that the person never had, among those they never had.
- ``again``: HR@10 for one that they had before, in the whole catalogue.

One row for each stage: what many people had (``popularity``), the session alone for somebody whose
history is not known (``session``), the history without the session (``person``), both as one
history (``and session, x1``), and with the words and categories of the session's items raised by a
weight (``and session, x32`` is what ships: `SESSION_WEIGHT` was chosen with ``--validation``, the
second-to-last invoices; without it, the last ones are asked). The release is that of eps 8 as if
100,000 people took part. The seed draws it, the session and what is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.assortment import Assortment, prepare
from client_sdk.intelligence import (
    History,
    score_all,
    solve_private_vector,
)
from client_sdk.intelligence.history import SESSION_GAP_S, SESSION_WEIGHT, taste_weights
from simulations.tune import Bench, Release, learn

SEEDS: Final = (0, 1, 2)
WEIGHTS: Final = (1.0, 4.0, 8.0, 16.0, 32.0, 128.0)
LONGEST: Final = 5
K: Final = 10
PROTOCOLS: Final = ("discover", "again")

ScoreArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One person in the middle of an invoice.

    Attributes:
        before: What they did up to then.
        session: int32[s], what they took in the last minutes.
        new: An item of the rest that they never had; None where there is none.
        had: An item of the rest that they had before; None where there is none.
    """

    before: History
    session: npt.NDArray[np.int32]
    new: int | None
    had: int | None

    def with_session(self, before: History) -> History:
        """Put the session behind a history."""
        now_s = self.before.now_s
        return History.from_events(
            items=np.concatenate([before.items, self.session]),
            times_s=np.concatenate([before.last_time_s, np.full(len(self.session), now_s)]),
            weights=np.concatenate([before.counts, np.ones(len(self.session))]),
            now_s=now_s,
        )


def questions(bench: Bench, seed: int) -> list[Question]:
    """Draw the part of each held-out invoice that is known, and what is asked."""
    rng = np.random.default_rng([seed, 77])
    held_out = bench.split.held_out
    taken = held_out.users[held_out.taste], held_out.items[held_out.taste]
    asked = []
    for person in np.unique(taken[0]).tolist():
        invoice = rng.permutation(np.unique(taken[1][taken[0] == person]))
        if len(invoice) < 2:
            continue
        size = int(rng.integers(1, min(LONGEST + 1, len(invoice))))
        before, rest = bench.histories[person], invoice[size:]
        known = np.isin(rest, before.items)
        asked.append(
            Question(
                before=before,
                session=np.sort(invoice[:size]).astype(np.int32),
                new=int(rest[~known][0]) if not known.all() else None,
                had=int(rest[known][0]) if known.any() else None,
            )
        )
    return asked


def rows(shop: Assortment, question: Question) -> dict[str, ScoreArray]:
    """Score the catalogue in each way: what each knows of the person differs."""
    nobody = History.empty(now_s=question.before.now_s)
    both = question.with_session(question.before)
    scores = {
        "popularity": _scores(shop, nobody),
        "session": _scores(shop, question.with_session(nobody)),
        "person": _scores(shop, question.before),
    }
    # The same history after the session is over: everything but the session's weight.
    plain = _scores(shop, both.at(both.now_s + SESSION_GAP_S))
    for weight in WEIGHTS:
        shipped = weight == SESSION_WEIGHT
        scores[f"and session, x{weight:g}"] = (
            _scores(shop, both) if shipped else _raised(shop, plain, both, question.session, weight)
        )
    return scores


def _scores(shop: Assortment, history: History) -> ScoreArray:
    table = shop.table
    vector = solve_private_vector(table, history)
    return score_all(table, table.settings, vector, history, shop.categories, words=shop.words)


def _raised(
    shop: Assortment,
    plain: ScoreArray,
    history: History,
    session: npt.NDArray[np.int32],
    weight: float,
) -> ScoreArray:
    """Score with another weight of the session than the one that ships."""
    settings = shop.table.settings
    over = history.at(history.now_s + SESSION_GAP_S)
    before = taste_weights(over, half_life_days=settings.own_half_life_days)
    after = before * np.where(np.isin(history.items, session), weight, 1.0)
    scores = plain.copy()
    for sign, weights in ((-1.0, before), (1.0, after)):
        words = shop.words.affinity(history.items, weights)
        share = shop.categories.affinity(history.items, weights, settings.category_size_power)
        scores += sign * (
            settings.word_weight * words + settings.category_weight * share[shop.categories.codes]
        )
    return scores


def judge(bench: Bench, seed: int) -> dict[str, dict[str, float]]:
    """Give HR@10 of each way for one seed."""
    shop = prepare(bench.arms.catalogue, learn(bench, Release(), seed=seed))
    hits: dict[str, dict[str, list[bool]]] = {}
    for question in questions(bench, seed):
        for name, scores in rows(shop, question).items():
            row = hits.setdefault(name, {protocol: [] for protocol in PROTOCOLS})
            # What is in the basket is not asked for again.
            scores[question.session] = -np.inf
            if question.had is not None:
                row["again"].append(_hit(scores, question.had))
            if question.new is not None:
                scores[question.before.items] = -np.inf
                row["discover"].append(_hit(scores, question.new))
    return {
        name: {protocol: float(np.mean(row[protocol])) for protocol in PROTOCOLS}
        for name, row in hits.items()
    }


def _hit(scores: ScoreArray, target: int) -> bool:
    """Say whether the target is among the first ten; of ties, the lower index stands first."""
    ahead = np.count_nonzero(scores > scores[target])
    return bool(ahead + np.count_nonzero(scores[:target] == scores[target]) < K)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, on the test or with --validation on the validation part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--validation", action="store_true", help="ask the validation part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    bench = Bench.load("validation" if options.validation else "test")
    runs = [judge(bench, seed) for seed in SEEDS]
    print(f"{'hr@10, 3 seeds':20}{'discover':>17}{'again':>17}{'beside x1':>22}")
    figures: dict[str, Any] = {}
    for name in runs[0]:
        figures[name] = {}
        cells, beside = "", ""
        for protocol in PROTOCOLS:
            values = np.array([run[name][protocol] for run in runs])
            gain = values - [run["and session, x1"][protocol] for run in runs]
            figures[name][protocol] = {
                "mean": float(values.mean()), "std": float(values.std(ddof=1)),
                "gain": float(gain.mean()), "gain_std": float(gain.std(ddof=1)),
            }  # fmt: skip
            cells += f"{values.mean():9.4f} ±{values.std(ddof=1):.4f}"
            beside += f"{gain.mean():+11.4f}"
        print(f"{name:20}{cells}{beside}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
