"""Assignment: keyed, stable, independent, and only ever growing."""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, chisquare

from client_sdk.experience.experiments import (
    Arm,
    Assignment,
    Experiment,
    ExperimentLog,
    Layer,
    Standing,
    assign,
)
from tests.client_sdk.experience.experiments.conftest import DAY_S, START_S, MakeExperiment

KEY = bytes(range(32))
NOW_S = START_S + DAY_S
PEOPLE = 100_000


def keys(count: int) -> list[bytes]:
    """Make synthetic device keys."""
    return [hashlib.sha256(f"device {number}".encode()).digest() for number in range(count)]


def everyone(experiment: Experiment, count: int = PEOPLE) -> list[Assignment]:
    """Assign all of them."""
    return [assign(experiment, key=key, now_s=NOW_S) for key in keys(count)]


def test_assign_one_key_twice_gives_the_same(make: MakeExperiment) -> None:
    """The key and the name decide, and neither time nor chance."""
    experiment = make()
    first = assign(experiment, key=KEY, now_s=NOW_S)
    assert first.standing is Standing.IN
    assert assign(experiment, key=KEY, now_s=NOW_S + 20 * DAY_S) == first


def test_assign_known_key_gives_the_known_arm(make: MakeExperiment) -> None:
    """An update of the SDK must not move anybody: these arms were written down once."""
    arms = [assign(make(), key=bytes([n]) * 32, now_s=NOW_S).arm for n in range(8)]
    assert arms == KNOWN_ARMS


KNOWN_ARMS = ["control", "linen", "linen", "control", "control", "control", "control", "control"]


def test_assign_weights_are_kept_over_many_keys(make: MakeExperiment) -> None:
    """Weights 1, 2 and 5 give an eighth, a quarter and five eighths (chi-square)."""
    arms = (Arm(name="a"), Arm(name="b", weight=2), Arm(name="c", weight=5))
    counts = Counter(found.arm for found in everyone(make(arms=arms)))
    seen = [counts["a"], counts["b"], counts["c"]]
    right, wrong = np.array([1, 2, 5]) / 8, np.array([1.1, 2, 4.9]) / 8
    assert chisquare(seen, right * PEOPLE).pvalue > 1e-3
    assert chisquare(seen, wrong * PEOPLE).pvalue < 1e-6


def test_assign_two_experiments_are_independent_of_each_other(make: MakeExperiment) -> None:
    """Who is in an arm here says nothing of the arm, or the share, there (chi-square)."""
    one = everyone(make(name="one", share=0.5))
    other = everyone(make(name="other", share=0.5))
    table = Counter(
        ((a.standing, a.arm), (b.standing, b.arm)) for a, b in zip(one, other, strict=True)
    )
    rows = sorted({row for row, _ in table}, key=str)
    grid = [[table[row, column] for column in rows] for row in rows]
    assert len(rows) == 3
    assert chi2_contingency(grid).pvalue > 1e-3
    same = [[table[row, column] if row == column else 0 for column in rows] for row in rows]
    assert chi2_contingency(same).pvalue < 1e-6


def test_assign_arm_is_independent_of_share_layer_and_holdout(make: MakeExperiment) -> None:
    """Among those who are in, whatever the stage, the arms keep their weights (chi-square)."""
    for share, layer in ((0.1, None), (0.9, Layer(name="home", end=0.3))):
        found = everyone(make(share=share, holdout=0.2, layer=layer), 60_000)
        counts = Counter(each.arm for each in found if each.arm)
        assert chisquare([counts["control"], counts["linen"]]).pvalue > 1e-3


def test_assign_raised_share_only_adds_people_and_moves_nobody(make: MakeExperiment) -> None:
    """Everyone who was in at a tenth has the same arm at a half and for all."""
    stages = [everyone(make(share=share), 5_000) for share in (0.0, 0.1, 0.5, 1.0)]
    for earlier, later in pairwise(stages):
        for before, after in zip(earlier, later, strict=True):
            assert before.standing is Standing.OUTSIDE_SHARE or before == after
    sizes = [sum(each.standing is Standing.IN for each in stage) for stage in stages]
    assert sizes[0] == 0
    assert sizes[3] == 5_000
    assert sizes == sorted(sizes)
    assert sizes[1] == pytest.approx(500, abs=5 * np.sqrt(450))


def test_assign_holdout_is_the_same_people_for_every_experiment(make: MakeExperiment) -> None:
    """One group of people sees no experiment; a larger holdout holds all of a smaller one."""
    held = [
        {n for n, found in enumerate(everyone(e, 20_000)) if found.standing is Standing.HOLDOUT}
        for e in (
            make(name="one", holdout=0.05),
            make(name="other", holdout=0.05, share=0.0),
            make(name="third", holdout=0.2, layer=Layer(name="home", end=0.1)),
        )
    ]
    assert held[0] == held[1]
    assert held[0] < held[2]
    assert len(held[0]) == pytest.approx(1_000, abs=5 * np.sqrt(950))


def test_assign_holdout_gets_a_group_and_no_arm(make: MakeExperiment) -> None:
    """The holdout is measured where something would have been shown, and is shown nothing."""
    experiment = make(holdout=0.5)
    found = next(e for e in everyone(experiment, 100) if e.standing is Standing.HOLDOUT)
    assert found.arm is None
    assert found.group == 2
    assert experiment.groups[2] == "holdout"


def test_assign_segments_of_a_layer_never_share_a_person(make: MakeExperiment) -> None:
    """Side by side in a layer is one or the other; in different layers it is independent."""
    first = everyone(make(name="one", layer=Layer(name="home", end=0.5)), 20_000)
    second = everyone(make(name="other", layer=Layer(name="home", start=0.5)), 20_000)
    third = everyone(make(name="third", layer=Layer(name="mail", end=0.5)), 20_000)
    inside = np.array(
        [[e.standing is Standing.IN for e in found] for found in (first, second, third)]
    )
    assert not (inside[0] & inside[1]).any()
    assert (inside[0] | inside[1]).all()
    both = (inside[0] & inside[2]).sum()
    assert both == pytest.approx(5_000, abs=5 * np.sqrt(20_000 * 0.25 * 0.75))


def test_assign_outside_of_its_time_shows_nothing(make: MakeExperiment) -> None:
    """Before the start, after the end, and for newcomers after the exposure window."""
    experiment = make(exposure_window_s=10 * DAY_S)
    log = ExperimentLog.empty(experiment).exposed(experiment, group=1, time_s=NOW_S)
    for now_s, standing, exposed in (
        (START_S - 1, Standing.NOT_STARTED, Standing.NOT_STARTED),
        (START_S, Standing.IN, Standing.IN),
        (START_S + 10 * DAY_S, Standing.TOO_LATE, Standing.IN),
        (START_S + 60 * DAY_S, Standing.ENDED, Standing.ENDED),
    ):
        assert assign(experiment, key=KEY, now_s=now_s).standing is standing
        assert assign(experiment, key=KEY, now_s=now_s, log=log).standing is exposed


def test_assign_exposed_person_keeps_the_group_of_the_log(make: MakeExperiment) -> None:
    """A new key, as after a restored backup, does not show a person the other arm."""
    experiment = make(holdout=0.1)
    for group, arm in ((0, "control"), (1, "linen"), (2, None)):
        log = ExperimentLog.empty(experiment).exposed(experiment, group=group, time_s=NOW_S)
        found = assign(experiment, key=KEY, now_s=NOW_S, log=log)
        assert (found.arm, found.group) == (arm, group)


def test_assign_other_experiments_log_or_short_key_is_refused(make: MakeExperiment) -> None:
    """Both are the caller's mistakes."""
    with pytest.raises(ValueError, match="begin one with"):
        assign(make(), key=KEY, now_s=NOW_S, log=ExperimentLog.empty(make(name="other")))
    with pytest.raises(ValueError, match="at least 16 bytes"):
        assign(make(), key=b"short", now_s=NOW_S)


def test_assign_places_fill_the_unit_interval_evenly(make: MakeExperiment) -> None:
    """Twenty even arms over 100,000 keys have even counts, and not too even ones."""
    arms = tuple(Arm(name=f"arm-{number}") for number in range(20))
    counts = Counter(found.group for found in everyone(make(arms=arms)))
    statistic = chisquare([counts[number] for number in range(20)]).statistic
    assert 1e-3 < chi2.cdf(statistic, 19) < 1 - 1e-3
