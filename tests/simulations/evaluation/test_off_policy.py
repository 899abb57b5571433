"""Off-policy estimates: beside another package's, beside known truths, and what is refused."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import off_policy as benchmark
from simulations.evaluation.off_policy import (
    Estimate,
    FloatArray,
    LoggedDecisions,
    PropensityError,
    cross_fitted_means,
    dr,
    ips,
    on_policy,
    snips,
)

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("HOMEBODY_SHARED", ROOT.parent / "shared"))
OPEN_BANDIT = SHARED / "data" / "open-bandit"

# What Open Bandit Pipeline 0.5.7 says (InverseProbabilityWeighting, its SelfNormalized form, and
# DoublyRobust; clipped by their lambda_), in an environment of its own: it asks for Python < 3.10
# and numpy < 2, so it can't stand beside ours. Its SelfNormalized form does not clip.
PIPELINE = {
    "made": {
        "ips": 0.4141040331012346,
        "snips": 0.5025907379312775,
        "dr": 0.5035032711721105,
        "ips clipped": 0.33513972040238704,
        "dr clipped": 0.4994917337350755,
    },
    "random": {
        "ips": 0.005035366932711512,
        "snips": 0.005253072196421469,
        "dr": 0.0051631710325828195,
        "ips clipped": 0.0049401067610829056,
        "dr clipped": 0.0053202360983830655,
    },
    "thompson": {
        "ips": 0.0023596395168460037,
        "snips": 0.0023337138931618065,
        "dr": 0.0024334637493555193,
        "ips clipped": 0.0020808233174690566,
        "dr clipped": 0.003669073882522939,
    },
}


def made() -> tuple[LoggedDecisions, FloatArray, FloatArray]:
    """Make a log, a target and predictions by arithmetic alone."""
    n, actions = 200, 4
    i = np.arange(n)
    raw = (i[:, None] * 11 + np.arange(actions) * 29) % 31 + 1.0
    log = LoggedDecisions(
        actions=(i * 7 + i // 5) % actions,
        rewards=((i * 53) % 17) / 16.0,
        propensities=((i * 37) % 89 + 5) / 100.0,
        n_actions=actions,
    )
    predicted = ((i[:, None] * 13 + np.arange(actions) * 5) % 23) / 22.0
    return log, raw / raw.sum(axis=1, keepdims=True), predicted


def ours(
    log: LoggedDecisions, target: FloatArray, predicted: FloatArray, clip: float
) -> dict[str, float]:
    """Give our values under the pipeline's names."""

    def model(_: LoggedDecisions) -> FloatArray:
        return predicted

    return {
        "ips": ips(log, target).value,
        "snips": snips(log, target).value,
        "dr": dr(log, target, model).value,
        "ips clipped": ips(log, target, clip=clip).value,
        "dr clipped": dr(log, target, model, clip=clip).value,
    }


def test_estimates_of_a_made_log_are_those_of_open_bandit_pipeline() -> None:
    """The same five numbers to 1e-9, on a log that everybody can make."""
    assert ours(*made(), clip=1.5) == pytest.approx(PIPELINE["made"], abs=1e-9, rel=0)


@pytest.mark.parametrize(("logged", "target"), [("random", "thompson"), ("thompson", "random")])
def test_estimates_of_the_open_bandit_logs_are_those_of_open_bandit_pipeline(
    logged: str, target: str
) -> None:
    """The same five numbers to 1e-9, on both real logs."""
    if not OPEN_BANDIT.is_dir():
        pytest.skip("the Open Bandit logs are not on this machine")
    weeks = benchmark.load(OPEN_BANDIT)
    log = weeks[logged].decisions
    chances = benchmark.policy(target, weeks)[weeks[logged].positions]
    predicted = cross_fitted_means(prior_weight=100.0)(log)
    found = ours(log, chances, predicted, clip=5.0)
    assert found == pytest.approx(PIPELINE[logged], abs=1e-9, rel=0)


def test_estimates_are_those_of_a_sum_by_hand() -> None:
    """Value, error, effective size and clipping, one decision after another in plain Python."""
    log, target, predicted = made()
    n, clip = len(log), 1.5
    weights = [
        min(clip, float(target[i, log.actions[i]]) / float(log.propensities[i])) for i in range(n)
    ]
    kept = sum(weights)
    value = sum(w * float(r) for w, r in zip(weights, log.rewards, strict=True)) / kept
    squares = sum((w * (float(r) - value)) ** 2 for w, r in zip(weights, log.rewards, strict=True))
    found = snips(log, target, clip=clip)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(squares * n / (n - 1)) / kept, abs=1e-12)
    assert found.effective_size == pytest.approx(kept**2 / sum(w * w for w in weights))
    assert found.clipped == sum(w == clip for w in weights) > 0
    terms = [
        w * (float(r) - float(predicted[i, log.actions[i]])) + float(target[i] @ predicted[i])
        for i, (w, r) in enumerate(zip(weights, log.rewards, strict=True))
    ]
    mean = sum(terms) / n
    error = math.sqrt(sum((term - mean) ** 2 for term in terms) / (n - 1) / n)
    robust = dr(log, target, lambda _: predicted, clip=clip)
    assert (robust.value, robust.standard_error) == pytest.approx((mean, error), abs=1e-12)
    assert (robust.decisions, robust.clipped) == (n, found.clipped)


N_CONTEXTS, N_ACTIONS, N_LOGGED, N_LOGS = 3, 4, 1_500, 400


class World:
    """A bandit whose truth is known: contexts, chances of a reward, two policies."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.chances = self.random.uniform(0.05, 0.6, (N_CONTEXTS, N_ACTIONS))
        self.logging = self.random.dirichlet(np.full(N_ACTIONS, 3.0), N_CONTEXTS) * 0.8 + 0.05
        self.target = self.random.dirichlet(np.full(N_ACTIONS, 1.0), N_CONTEXTS)
        self.truth = float((self.target * self.chances).sum(axis=1).mean())

    def log(self) -> tuple[LoggedDecisions, FloatArray, FloatArray]:
        """Let the logging policy act; give its log, the target and the true chances, by row."""
        contexts = self.random.integers(0, N_CONTEXTS, N_LOGGED)
        logging = self.logging[contexts]
        drawn = self.random.random(N_LOGGED)[:, None] > logging.cumsum(axis=1)
        actions = np.minimum(drawn.sum(axis=1), N_ACTIONS - 1)
        rows = np.arange(N_LOGGED)
        rewards = self.random.random(N_LOGGED) < self.chances[contexts, actions]
        decisions = LoggedDecisions(
            actions=actions,
            rewards=rewards.astype(np.float64),
            propensities=logging[rows, actions],
            n_actions=N_ACTIONS,
        )
        return decisions, self.target[contexts], self.chances[contexts]


Estimator = Callable[[LoggedDecisions, FloatArray, FloatArray], Estimate]
ESTIMATORS: dict[str, Estimator] = {
    "ips": lambda log, target, _: ips(log, target),
    "snips": lambda log, target, _: snips(log, target),
    "dr, true model": lambda log, target, chances: dr(log, target, lambda _: chances),
    "dr, wrong model": lambda log, target, chances: dr(log, target, lambda _: 1.0 - chances),
    "dr, action means": lambda log, target, _: dr(log, target, cross_fitted_means()),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_interval_of_95_percent_holds_the_known_truth(seed: int) -> None:
    """Over 400 logs a world, every estimator's interval does what it says; so does DR's error."""
    world = World(seed)
    logs = [world.log() for _ in range(N_LOGS)]
    errors = {}
    for name, estimator in ESTIMATORS.items():
        found = [estimator(*log) for log in logs]
        held = np.mean([low <= world.truth <= high for low, high in (e.interval() for e in found)])
        # 3 deviations of a share of 400 around .95; an error off by a third is far outside.
        assert 0.917 <= held <= 0.983, name
        narrow = np.mean([abs(e.value - world.truth) <= 1.3 * e.standard_error for e in found])
        assert narrow < 0.9, name
        errors[name] = np.mean([e.standard_error for e in found])
        spread = np.std([e.value for e in found])
        assert errors[name] == pytest.approx(spread, rel=0.15), name
    assert errors["dr, true model"] < errors["ips"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dr_is_right_with_wrong_propensities_and_a_true_model(seed: int) -> None:
    """Doubly robust: halved propensities break IPS, and not DR with the true model."""
    world = World(seed)
    wrong, right = [], []
    for _ in range(100):
        log, target, chances = world.log()
        halved = LoggedDecisions(
            actions=log.actions,
            rewards=log.rewards,
            propensities=log.propensities / 2,
            n_actions=N_ACTIONS,
        )
        wrong.append(ips(halved, target).value)
        right.append(dr(halved, target, lambda _, chances=chances: chances).value)
    assert np.mean(wrong) == pytest.approx(2 * world.truth, rel=0.05)
    assert np.mean(right) == pytest.approx(world.truth, rel=0.05)


@given(
    rewards=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30),
    seed=st.integers(0, 2**32 - 1),
    clip=st.floats(0.1, 10.0),
)
def test_estimates_of_the_logging_policy_are_its_mean(
    rewards: list[float], seed: int, clip: float
) -> None:
    """Own propensities give own rewards; SNIPS stays in the rewards' range; sizes are bounded."""
    random = np.random.default_rng(seed)
    n = len(rewards)
    own = random.dirichlet(np.ones(3), n) * 0.97 + 0.01
    actions = random.integers(0, 3, n)
    log = LoggedDecisions(
        actions=actions,
        rewards=np.array(rewards),
        propensities=own[np.arange(n), actions],
        n_actions=3,
    )
    truth = on_policy(log)
    for found in (ips(log, own), snips(log, own)):
        assert found.value == pytest.approx(truth.value, abs=1e-12)
        assert found.standard_error == pytest.approx(truth.standard_error, abs=1e-12)
        assert found.effective_size == pytest.approx(n)
    other = random.dirichlet(np.ones(3), n)
    clipped = snips(log, other, clip=clip)
    assert min(rewards) - 1e-9 <= clipped.value <= max(rewards) + 1e-9
    assert 1 - 1e-9 <= clipped.effective_size <= n + 1e-9


@pytest.mark.parametrize(
    ("propensities", "says"),
    [
        ([0.5, math.nan], "1 that are missing"),
        ([0.5, None], "1 that are missing"),
        (None, "expected one for each of 2"),
        ([0.5], "expected one for each of 2"),
        ([0.0, 0.5], "1 that are zero or below"),
        ([-0.1, -0.5], "2 that are zero or below"),
        ([0.5, 1.5], "1 that are above 1"),
        ([0.5, math.inf], "1 that are above 1"),
        (["x", 0.5], "no number"),
    ],
)
def test_log_without_a_propensity_is_refused(propensities: Any, says: str) -> None:
    """No estimate is made up where the chance was not written down."""
    with pytest.raises(PropensityError, match=says):
        LoggedDecisions(
            actions=np.array([0, 1]),
            rewards=np.array([0.0, 1.0]),
            propensities=propensities,
            n_actions=2,
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": np.array([0, 2])},
        {"actions": np.array([-1, 0])},
        {"actions": np.array([0.0, 1.0])},
        {"actions": np.array([0]), "rewards": np.array([1.0]), "propensities": np.array([0.5])},
        {"rewards": np.array([0.0, math.nan])},
        {"rewards": np.array([0.0])},
        {"rewards": ["x", 1.0]},
        {"n_actions": 0},
    ],
)
def test_log_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    """Actions are of the known ones, rewards are numbers."""
    fields = {
        "actions": np.array([0, 1]),
        "rewards": np.array([0.0, 1.0]),
        "propensities": np.array([0.5, 0.5]),
        "n_actions": 2,
    }
    with pytest.raises(ValueError, match="expected"):
        LoggedDecisions(**{**fields, **changes})


def test_target_clip_and_model_that_do_not_fit_are_refused() -> None:
    """Rows of chances, a positive clip, finite predictions, and something in common."""
    log, target, predicted = made()
    for wrong in (target[:5], target * 2, target - 1.0, np.full_like(target, np.nan)):
        with pytest.raises(ValueError, match="target: expected chances"):
            ips(log, wrong)
    for clip in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="clip"):
            ips(log, target, clip=clip)
    for bad in (predicted[:5], predicted * np.nan):
        with pytest.raises(ValueError, match="model"):
            dr(log, target, lambda _, bad=bad: bad)
    never = np.zeros_like(target)
    never[np.arange(len(log)), (log.actions + 1) % 4] = 1.0
    with pytest.raises(ValueError, match="explores more"):
        snips(log, never)
    assert ips(log, never).effective_size == 0.0
    with pytest.raises(ValueError, match="confidence"):
        ips(log, target).interval(1.0)
    for folds, weight in ((1, 1.0), (2, 0.0)):
        with pytest.raises(ValueError, match="folds"):
            cross_fitted_means(folds=folds, prior_weight=weight)


def test_cross_fitted_means_never_see_the_row_that_they_predict() -> None:
    """Changing one reward changes no prediction of its own fold."""
    log, _, _ = made()
    model = cross_fitted_means(folds=5)
    rewards = log.rewards.copy()
    rewards[12] += 100.0
    changed = LoggedDecisions(
        actions=log.actions, rewards=rewards, propensities=log.propensities, n_actions=4
    )
    same = (model(log) == model(changed)).all(axis=1)
    assert same[2::5].all()
    assert not same[np.arange(len(log)) % 5 != 2].any()


def test_benchmark_data_absent_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Whoever lacks the data reads where it was looked for, and no traceback."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "off_policy.py"), "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.strip().splitlines()) == 1
    assert "--data" in run.stderr


def test_benchmark_estimates_lie_within_two_errors_of_the_other_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each policy's own log agrees with what the other one's says of it, within the noise."""
    if not OPEN_BANDIT.is_dir():
        pytest.skip("the Open Bandit logs are not on this machine")
    out = tmp_path / "off_policy.json"
    assert benchmark.main(["--data", str(OPEN_BANDIT.parent), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["off_policy"]
    assert len(rows) == 10
    values = {(row["log"], row["estimator"]): row["value"] for row in rows}
    assert all(abs(row["off"]) < 2 for row in rows if "<=" not in row["estimator"])
    # Rewards are 0 or more, so clipping takes from IPS.
    assert all(values[log, "IPS, weights <= 5"] < values[log, "IPS"] for log in benchmark.POLICIES)
    assert {row["truth"] for row in rows} == {0.0042, 0.0038}
    assert len(capsys.readouterr().out.splitlines()) == 12
