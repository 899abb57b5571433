"""The MovieLens goals without the data, which the product may not carry."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import movielens
from benchmarks.movielens_goals import (
    GOALS,
    LATE_ITEMS,
    Together,
    late_validation,
    main,
    show,
    standardised,
)
from client_sdk.intelligence import History, RankerTable


def test_movielens_goals_data_absent_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever lacks the data reads where it was looked for, and no traceback."""
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(tmp_path)])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert "--data" in shown.err


def test_movielens_goals_no_seeds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean of nothing is no row."""
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])
    assert "--seeds" in capsys.readouterr().err


def _made_up(folder: Path) -> movielens.Ratings:
    """Person 0 has items 0 to 5, the later the higher, and a test item; person 1 has no times."""
    pairs = [(0, item) for item in range(6)] + [(1, item) for item in range(3, 9)]
    (folder / "ncf_item_map.csv").write_text(
        "ncf_item,movieId,exact\n" + "".join(f"{item},{item + 100},1\n" for item in range(10))
    )
    with gzip.open(folder / "ratings.users1-668.with_timestamps.dat.gz", "wt") as file:
        # Person 0's test item 9 is the latest event of all and must not be held out.
        for item in (9, 4, 2, 0, 5, 1, 3):
            file.write(f"1::{item + 100}::5::{1_000 + item}\n")
    users, items = np.array(pairs, np.int64).T
    return movielens.Ratings(
        users=users,
        items=items,
        targets=np.array([9, 9], np.int64),
        negatives=np.zeros((2, 99), np.int32),
    )


def test_late_validation_holds_out_the_last_training_items_only(tmp_path: Path) -> None:
    """The last three by time leave training; the test item and the undated person are untouched."""
    ratings = _made_up(tmp_path)
    late = late_validation(tmp_path, ratings)
    assert late.train.items[late.train.users == 0].tolist() == [0, 1, 2]
    assert late.train.items[late.train.users == 1].tolist() == [3, 4, 5, 6, 7, 8]
    assert [asked.targets.tolist() for asked in late.asked] == [[3], [4], [5]]
    assert len(late.asked) == LATE_ITEMS
    for asked in late.asked:
        assert asked.n_people == 1
        assert asked.items.tolist() == [0, 1, 2]
        drawn = set(asked.negatives[0].tolist())
        assert len(drawn) == 99
        assert not drawn & {0, 1, 2, int(asked.targets[0])}


def test_standardised_scores_have_mean_0_and_deviation_1() -> None:
    """Each person's scores by themselves; scores that are all equal become 0."""
    scores = np.array([[1.0, 2.0, 6.0], [30.0, 10.0, 20.0], [4.0, 4.0, 4.0]], np.float32)
    found = standardised(scores)
    np.testing.assert_allclose(found.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), [1.0, 1.0, 0.0], atol=1e-6)
    assert np.argsort(found[1]).tolist() == [1, 2, 0]


def test_together_weight_decides_whom_the_device_believes() -> None:
    """At 0 and 1 one table speaks alone; between them both do, whatever their scale."""

    def table(scale: float, popularity: list[float]) -> RankerTable:
        return RankerTable.from_arrays(
            factors=np.zeros((3, 1)),
            popularity=np.array(popularity),
            settings=replace(movielens.RANKER, popularity_weight=scale),
        )

    first, second = table(1.0, [1.0, 0.5, 0.0]), table(1_000.0, [0.0, 0.6, 1.0])
    nobody = [History.from_events(items=[], times_s=[], now_s=0.0)]
    order = {
        weight: np.argsort(-Together(statistics=first, rounds=second, weight=weight)(nobody)[0])
        for weight in (0.0, 0.5, 1.0)
    }
    assert order[0.0].tolist() == [0, 1, 2]
    assert order[1.0].tolist() == [2, 1, 0]
    assert order[0.5][0] == 1


def test_show_a_goal_missed_by_little_is_said_to_be_missed() -> None:
    """The row says no where a figure is below its goal, and yes where it is at it."""
    row: dict[str, object] = dict(GOALS)
    row |= {f"{name} std": 0.0 for name in GOALS} | {"arm": "made up", "learning_s": 1.0}
    assert show(row).count("yes") == 3
    assert show(row | {"full HR@10": GOALS["full HR@10"] - 1e-4}).count("yes") == 2


def _people(lengths: tuple[int, ...]) -> movielens.Population:
    users = np.repeat(np.arange(len(lengths)), lengths)
    items = np.concatenate([np.arange(length) for length in lengths])
    return movielens.Population(
        movielens.Ratings(
            users=users,
            items=items,
            targets=np.zeros(len(lengths), np.int64),
            negatives=np.zeros((len(lengths), 99), np.int32),
        )
    )


def test_gram_public_longest_gives_the_plain_gram_up_to_it_and_norm_1_beyond() -> None:
    """Weight n^(1/2) undoes the unit norm; who has more than the public length stays at norm 1."""
    people = _people((2, 4, 16))
    within = np.arange(16, dtype=np.int32)
    packed = people.gram(within, 0.5, 4.0)
    # Norms of x x': 2 / 4, 4 / 4, and 1 where 16 / 4 would have been.
    expected = np.zeros((16, 16))
    expected[:2, :2] += 1.0 / 4.0
    expected[:4, :4] += 1.0 / 4.0
    expected += 1.0 / 16.0
    rows, columns = np.triu_indices(16)
    wanted = expected[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    np.testing.assert_allclose(packed, wanted, rtol=1e-6)
    for one in (2, 4, 16):
        assert np.linalg.norm(_people((one,)).gram(within, 0.5, 4.0)) <= 1.0 + 1e-6


def test_learn_private_row_without_public_longest_is_refused() -> None:
    """The longest history of those who take part is one person's secret."""
    with pytest.raises(ValueError, match="public longest"):
        movielens.learn(
            _people((2, 3)),
            epsilon=1.0,
            times=1,
            seed=0,
            statistics=movielens.NOISY,
            length_power=0.5,
        )
