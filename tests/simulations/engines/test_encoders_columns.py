"""What devices hold beside histories, in columns: nonsense is refused, processes can share it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk.intelligence import History
from client_sdk.wire import Order, Refusal, TaskKind, sha256_hex
from client_sdk.wire.bandit import ArmEvidence, arms_payload
from client_sdk.wire.run_terms import ClippingTerms, Layer
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import WILLING, Crowd, code_of
from simulations.engines.encoders import (
    AS_FAST,
    KernelOptions,
    OrderRefusedError,
    UnsupportedByKernelError,
    check_supported,
    encoder_for,
)
from simulations.engines.holdings import (
    ActiveRelease,
    BanditColumns,
    FeatureColumns,
    Holdings,
    OutcomeColumns,
)
from simulations.engines.pool import ONE_THREAD

FEATURES = FeatureColumns(
    names=("visits", "age_group"),
    ordinary=frozenset({"visits"}),
    values=np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]]),
)
OUTCOMES = OutcomeColumns(
    group=np.array([0, -1, 1], np.int16), outcomes=np.array([[0.5], [0.0], [1.0]])
)


def evidence(*arms: str, size: float = 1.0) -> ArmEvidence:
    """Two features and an answer for each arm."""
    count = len(arms)
    return ArmEvidence(
        arms=arms,
        precision=np.tile(size * np.eye(2), (count, 1, 1)),
        response=np.full((count, 2), size),
    )


BANDIT = BanditColumns.from_evidence(
    [evidence("tea"), None, evidence("tea", "mug", size=1e200)], n_features=2
)


def holdings(**changes: Any) -> Holdings:
    """Three people with two items each."""
    history = History.from_events(items=[0, 2], times_s=[1.0, 2.0], now_s=3.0)
    return Holdings(
        release=ActiveRelease(catalogue_sha256="c", policy_sha256="p", n_items=4),
        histories=HistoryColumns.from_histories([history] * 3, now_s=3.0),
        **{
            "features": FEATURES,
            "experiments": {"ab" * 32: OUTCOMES},
            "bandits": {"home": BANDIT},
            **changes,
        },
    )


def order(kind: TaskKind, **changes: Any) -> Order:
    """An order as far as an encoder reads it."""
    payload = changes.get("payload", b"")
    return Order(
        **{
            "task_id": "1" * 32, "kind": kind, "population": "p", "round": 0,
            "policy_sha256": "0" * 64, "catalogue_sha256": "0" * 64, "dimension": 5,
            "clip_norm": 1.0, "closes_at_s": 9, "promise": {}, "parameters": {},
            "payload_sha256": sha256_hex(payload), **changes,
        }
    )  # fmt: skip


BANDIT_ORDER = order(
    TaskKind.BANDIT_STATISTICS,
    dimension=10,
    parameters={"bandit": "home", "arms": 2, "features": 2},
    payload=arms_payload(["mug", "tea"]),
)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: replace(FEATURES, values=np.zeros((3, 3))), "values must be"),
        (lambda: replace(FEATURES, names=("visits", "visits")), "once each"),
        (lambda: replace(FEATURES, ordinary=frozenset({"other"})), "once each"),
        (lambda: replace(OUTCOMES, group=np.zeros(2, np.int16)), "outcomes must be"),
        (lambda: replace(OUTCOMES, outcomes=np.full((3, 1), 1.5)), "from 0 to 1"),
        (lambda: replace(OUTCOMES, outcomes=np.full((3, 1), np.nan)), "from 0 to 1"),
        (lambda: replace(BANDIT, offsets=np.array([0, 9])), "offsets must run"),
        (lambda: replace(BANDIT, n_features=3), "another shape"),
        (lambda: replace(BANDIT, arm=np.array([0, 7, 1], np.int32)), "not among"),
        (lambda: replace(BANDIT, features=np.array([2], np.int32)), "for each of 3"),
        (lambda: holdings(features=replace(FEATURES, values=np.zeros((2, 4)))), "3 people"),
        (
            lambda: holdings(bandits={"x": BanditColumns.from_evidence([], n_features=2)}),
            "3 people",
        ),
    ],
)
def test_columns_nonsense_refused(make: Any, problem: str) -> None:
    """Columns that don't fit each other never reach an encoder."""
    with pytest.raises(ValueError, match=problem):
        make()


def test_holdings_pickled_or_mapped_give_the_same_bits(tmp_path: Path) -> None:
    """Another process, or arrays on disk, add up to the same."""
    mapped = {}
    for name in ("offsets", "arm", "evidence", "features"):
        np.save(tmp_path / f"{name}.npy", getattr(BANDIT, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    forms = (
        holdings(),
        pickle.loads(pickle.dumps(holdings())),  # noqa: S301 - our own bytes
        holdings(bandits={"home": replace(BANDIT, **mapped)}),
    )
    sums = [ONE_THREAD.add_up(BANDIT_ORDER, held, np.arange(3)) for held in forms]
    for other in sums[1:]:
        np.testing.assert_array_equal(other.steps, sums[0].steps)
    assert sums[0].outcome.tolist() == [
        WILLING, code_of(Refusal.TOO_LITTLE_DATA), WILLING
    ]  # fmt: skip
    assert pickle.loads(pickle.dumps(KernelOptions())) == AS_FAST  # noqa: S301 - our own bytes


def test_bandit_statistics_beyond_float32_are_clipped_and_not_lost() -> None:
    """Evidence that float32 cannot hold keeps its direction."""
    total = ONE_THREAD.add_up(BANDIT_ORDER, holdings(), np.array([2])).steps / 2**30
    expected = evidence("tea", "mug", size=1e200).pack(["mug", "tea"], clip_norm=1.0)
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("asked", "changes", "reason"),
    [
        (replace(BANDIT_ORDER, payload=b"{"), {}, Refusal.OUT_OF_BOUNDS_ORDER),
        (BANDIT_ORDER, {"bandits": {}}, Refusal.TOO_LITTLE_DATA),
        (order(TaskKind.ITEM_COUNTS, payload=b"x"), {}, Refusal.OUT_OF_BOUNDS_ORDER),
        (order(TaskKind.EXPERIMENT_OUTCOMES, payload=b"x"), {}, Refusal.OUT_OF_BOUNDS_ORDER),
        (order(TaskKind.SURVEY, payload=b"x"), {}, Refusal.OUT_OF_BOUNDS_ORDER),
    ],
)
def test_encoder_for_an_order_that_nobody_can_obey_is_refused(
    asked: Order, changes: dict[str, Any], reason: Refusal
) -> None:
    """With the reason that every device would give."""
    with pytest.raises(OrderRefusedError) as caught:
        encoder_for(asked, holdings(**changes), AS_FAST)
    assert caught.value.reason is reason
    outcome = ONE_THREAD.add_up(asked, holdings(**changes), np.arange(3)).outcome
    assert outcome.tolist() == [code_of(reason)] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"clipping": ClippingTerms(count_share=0.1)},
        {
            "clipping": ClippingTerms(
                layers=(Layer(entries=1, share=0.6), Layer(entries=4, share=0.8))
            )
        },
        {"parameters": {"local_noise_multiplier": 2.0}},
    ],
)
def test_check_supported_what_only_devices_do_is_named(changes: dict[str, Any]) -> None:
    """Before anything is reserved, and with a way out."""
    with pytest.raises(UnsupportedByKernelError, match="engine devices"):
        check_supported(order(TaskKind.SURVEY, **changes))
    check_supported(order(TaskKind.SURVEY))


def test_experiment_asked_in_two_tasks_is_answered_once() -> None:
    """A person is in an experiment's sums once, however many tasks ask; of another, again."""
    held = holdings()
    asked = {"experiment": "ab" * 32, "groups": 2, "metrics": 1}
    first, second, other = (
        order(
            TaskKind.EXPERIMENT_OUTCOMES,
            task_id=number * 32,
            catalogue_sha256=held.release.catalogue_sha256,
            policy_sha256=held.release.policy_sha256,
            dimension=6,
            parameters={**asked, "experiment": definition * 32},
        )
        for number, definition in (("1", "ab"), ("2", "ab"), ("3", "cd"))
    )
    crowd, everyone = Crowd.willing(held), np.arange(3)
    assert crowd.invite(first, everyone).tolist() == [WILLING] * 3
    crowd.remember(first, np.array([0, 2]))
    again = code_of(Refusal.ALREADY_CONTRIBUTED)
    assert crowd.invite(second, everyone).tolist() == [again, WILLING, again]
    assert crowd.invite(other, everyone).tolist() == [WILLING] * 3
    sums = ONE_THREAD.add_up(first, held, everyone)
    assert sums.outcome.tolist() == [WILLING, code_of(Refusal.TOO_LITTLE_DATA), WILLING]
