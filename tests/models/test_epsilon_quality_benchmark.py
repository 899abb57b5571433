"""The benchmark of quality against epsilon, without the data that the product may not carry."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import movielens
from benchmarks.epsilon_quality import KNOWN_REACH, METRICS, main, movielens_row, show
from benchmarks.movielens_attributes import attributes_of
from models.item_prior import ItemPrior

ROOT = Path(__file__).parents[2]


def test_epsilon_quality_data_absent_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Whoever asks for MovieLens-1M alone and lacks it reads where it was looked for."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.epsilon_quality",
            *f"--only movielens --data {tmp_path}".split(),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.strip().splitlines()) == 1
    assert "--data" in run.stderr


def test_epsilon_quality_no_seeds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean of nothing is no row."""
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])
    assert "--seeds" in capsys.readouterr().err


@pytest.mark.parametrize(("kept", "said"), [(0.88, "yes"), (0.8799, "NO")])
def test_epsilon_quality_row_says_whether_its_goal_is_reached(
    kept: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A share just below its goal is not rounded up to it."""
    row = dict.fromkeys(METRICS, 0.1) | {"data": "made up", "people": 10, "epsilon": 2.0}
    show(row | {"std": 0.0, "kept": kept, "goal": 0.88, "seconds": 1.0})
    assert capsys.readouterr().out.split("goal 88%: ")[1].split()[0] == said


def test_movielens_attributes_follow_genre_year_and_shared_words(tmp_path: Path) -> None:
    """Sequels of a year are nearest; another genre and time shares nothing."""
    movies = (
        "1::Alien (1979)::Horror|Sci-Fi",
        "2::Aliens (1986)::Horror|Sci-Fi",
        "3::Dog Days (1986)::Comedy",
        "4::Dog Nights (1986)::Comedy",
        "5::Old Thing (1930)::Drama",
    )
    (tmp_path / "movies.dat").write_text("\n".join(movies) + "\n", encoding="latin-1")
    # The map lists the items in another order than the movies' numbers.
    pairs = "ncf_item,movieId,exact\n1,1,1\n0,2,1\n2,3,1\n3,4,0\n4,5,1\n"
    (tmp_path / "ncf_item_map.csv").write_text(pairs)
    rows = attributes_of(tmp_path)
    alike = rows @ rows.T
    assert alike[2, 3] > alike[0, 1] > alike[0, 2] > 0
    assert np.abs(alike[4, :4]).max() < 1e-12
    assert alike[0, 1] == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
def test_epsilon_quality_at_epsilon_1_beats_the_known_reach() -> None:
    """6,040 people at epsilon 1: above 0.062, the best that was known."""
    shared = Path(os.environ.get("HOMEBODY_SHARED", ROOT.parent / "shared")) / "data"
    folder = shared / "ml-1m"
    if not movielens.is_there(folder):
        pytest.skip("MovieLens-1M is not on this machine")
    people = movielens.Population(movielens.load(folder))
    prior = ItemPrior(attributes=attributes_of(folder), settings=movielens.PRIOR)
    row = movielens_row(people, prior, epsilon=1.0, times=1, seeds=(0,))
    assert row["discover hr@10"] > KNOWN_REACH[1.0] + 0.005
