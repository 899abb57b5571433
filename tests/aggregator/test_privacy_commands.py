"""``homebody privacy ledger|spend|verify|export``: what an auditor sees; nothing is hidden.

Longer than 400 lines because four commands are asked about the same ledgers, sound and damaged.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from aggregator.ledger import Ledger
from aggregator.ledger_reading import read_rows
from aggregator.privacy_commands import main
from client_sdk.wire import TaskKind
from privacy.accounting import epsilon_pld, epsilon_rdp
from privacy.budget import Budget
from privacy.chain import verify_chain
from privacy.events import AssumedPopulation, MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName

BUDGET = Budget(epsilon=4.0, delta=1e-6)
RUN = Factorisation(
    name=FactorisationName.INDEPENDENT_ROUNDS, rounds=10, min_separation=5, max_participations=2
)


def event(number: int, **changes: Any) -> ReleaseEvent:
    """One Gaussian release."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_COUNTS,
        "task_id": f"{number:032x}",
        "population": "shop",
        "noise_multiplier": 9.0,
        "clip_norm": 1.0,
        "dimension": 5,
        "report_goal": 10,
    }
    return ReleaseEvent(**{**values, **changes})


COUNTS = event(1)
TRAINING = event(
    2, kind=TaskKind.ITEM_TRAINING, mechanism=MechanismName.INDEPENDENT_ROUNDS, factorisation=RUN
)
VOIDED = event(3, noise_multiplier=3.0)
FORECAST = event(4, assumed=AssumedPopulation(simulated_people=10, people=100))
CAFE = event(5, population="=café\x1b[31m", noise_multiplier=20.0)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three scopes; a commit, an open run, a void, a note."""
    path = tmp_path / "shop.sqlite"
    ledger = Ledger(
        f"sqlite:///{path}",
        {"shop": BUDGET, CAFE.population: BUDGET},
        now_s=lambda: 1_760_000_000.25,
    )
    ledger.commit(ledger.reserve(COUNTS), 17)
    ledger.reserve(TRAINING)
    ledger.void(ledger.reserve(VOIDED), "nobody\ncame")
    ledger.reserve(FORECAST)
    ledger.reserve(CAFE)
    ledger.close()
    return path


def forge(path: Path, statement: str) -> None:
    """Somebody with write access to the database."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Run with ``--json`` and read what came."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


class TestLedger:
    """Every row."""

    def test_ledger_shows_every_row_in_words(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who, what, when, and why something was never released."""
        assert main(["ledger", str(database)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(read_rows(str(database))) + 1 == 8
        assert "2025-10-09T08:53:20Z reserve" in lines[0]
        assert "item-counts for shop: gaussian, noise multiplier 9.0, window all time" in lines[0]
        assert "17 reports in the sum" in lines[1]
        assert "independent-rounds, noise multiplier 9.0, 10 rounds" in lines[2]
        assert "never released: nobody?came" in lines[4]
        assert lines[-1] == "7 rows"

    def test_ledger_lets_no_name_move_the_cursor(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A population's name is somebody's text."""
        assert main(["ledger", str(database)]) == 0
        assert "\x1b" not in capsys.readouterr().out

    def test_ledger_of_one_population_has_its_rows_only(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Settling rows too, though they do not name it."""
        found = answer(capsys, "ledger", str(database), "--population", "shop")
        assert [row["seq"] for row in found["rows"]] == [1, 2, 3, 4, 5, 6]
        assert found["whole"] is True

    def test_ledger_that_was_tampered_with_is_shown_and_fails(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The auditor needs to see the rows, and a script must notice."""
        forge(database, "UPDATE ledger SET at_ms = at_ms + 1 WHERE seq = 3")
        assert main(["ledger", str(database)]) == 1
        caught = capsys.readouterr()
        assert "7 rows" in caught.out
        assert "ledger row 3" in caught.err


class TestSpend:
    """ε of each scope."""

    def test_spend_states_each_scope_by_every_accountant(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is void does not count, what is open does; forecasts are apart."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        found = answer(capsys, "spend", str(database))["spent"]
        totals = [part for part in found if part["purpose"] is None]
        assert [part["scope"] for part in totals] == [
            "shop",
            "shop (simulation, as if 100 people)",
            CAFE.population,
        ]
        shop = totals[0]
        assert shop["epsilon_pld"] == pytest.approx(epsilon_pld([COUNTS, TRAINING], 1e-6))
        assert shop["epsilon_rdp"] == pytest.approx(epsilon_rdp([COUNTS, TRAINING], 1e-6))
        assert shop["epsilon_pld"] <= shop["epsilon_prv_bound"] <= shop["epsilon_pld"] + 3e-3
        assert (shop["committed"], shop["reserved"], shop["voided"]) == (1, 1, 1)
        assert shop["budget"] == {"epsilon": 4.0, "delta": 1e-6}
        assert shop["adjacency"] == [COUNTS.adjacency]
        assert shop["trusted"] == [COUNTS.trusted]
        assert shop["assumes"] == list(TRAINING.assumes)

    def test_spend_divides_a_scope_by_purpose_and_window(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The parts are priced alone; together they cost less than their sum."""
        found = answer(capsys, "spend", str(database), "--population", "shop")["spent"]
        total = found[0]
        parts = {part["purpose"]: part["epsilon_pld"] for part in found if part["purpose"]}
        parts.pop("statistics")
        (train,) = [part for part in found if part["purpose"] == "train"]
        assert train["epsilon_pld"] == pytest.approx(epsilon_pld([TRAINING], 1e-6))
        assert train["epsilon_pld"] < total["epsilon_pld"]

    def test_spend_at_another_delta_is_another_epsilon(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A smaller δ is a stronger claim."""
        found = answer(capsys, "spend", str(database), "--delta", "1e-9")["spent"][0]
        assert found["delta"] == 1e-9
        assert found["epsilon_pld"] == pytest.approx(epsilon_pld([COUNTS, TRAINING], 1e-9))

    def test_spend_in_words_names_budget_neighbours_and_trust(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Never a number alone."""
        assert main(["spend", str(database)]) == 0
        out = capsys.readouterr().out
        for words in ("of 4 (budget", "by PLD", "Opacus' PRV", "Rényi", "neighbours", "trusted"):
            assert words in out
        assert "a forecast of a simulation" in out
        assert "\x1b" not in out

    def test_spend_of_a_tampered_ledger_is_not_stated(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No ε rests on a broken chain."""
        forge(database, "DELETE FROM ledger WHERE seq = 2")
        assert main(["spend", str(database)]) == 1
        caught = capsys.readouterr()
        assert caught.out == ""
        assert "ledger row 2: missing" in caught.err


class TestVerify:
    """The chain."""

    def test_verify_whole_ledger_gives_its_head(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """To be noted elsewhere; and to be asked for again."""
        found = answer(capsys, "verify", str(database))
        assert (found["whole"], found["rows"]) == (True, 7)
        assert main(["verify", str(database), "--head", found["head"]]) == 0

    @pytest.mark.parametrize(
        ("how", "row"),
        [
            ("UPDATE ledger SET body = replace(body, '9.0', '90.0') WHERE seq = 1", 1),
            ("DELETE FROM ledger WHERE seq = 4", 4),
            ("UPDATE ledger SET kind = 'void' WHERE seq = 2", 2),
            ("UPDATE ledger SET previous = hash WHERE seq = 6", 6),
        ],
    )
    def test_verify_tampered_ledger_names_the_row(
        self, database: Path, how: str, row: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 1, one line."""
        forge(database, how)
        assert main(["verify", str(database), "--json"]) == 1
        caught = capsys.readouterr()
        assert json.loads(caught.out)["wrong_row"] == row
        assert f"ledger row {row}" in caught.err
        assert caught.err.count("\n") == 1

    def test_verify_cut_off_tail_is_noticed_against_a_noted_head(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Alone, the shorter chain is whole."""
        head = answer(capsys, "verify", str(database))["head"]
        forge(database, "DELETE FROM ledger WHERE seq = 7")
        assert main(["verify", str(database)]) == 0
        assert main(["verify", str(database), "--head", head]) == 1
        assert "ledger row 7" in capsys.readouterr().err

    def test_verify_writes_nothing(self, database: Path) -> None:
        """Not even a time stamp: the file may be evidence."""
        database.chmod(0o400)
        before = (database.read_bytes(), sorted(each.name for each in database.parent.iterdir()))
        assert main(["verify", str(database)]) == 0
        after = (database.read_bytes(), sorted(each.name for each in database.parent.iterdir()))
        assert before == after


class TestExport:
    """Files for whoever asks."""

    def test_export_is_the_whole_chain_and_verifies_without_the_database(
        self, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Same rows, same head."""
        found = answer(capsys, "export", str(database), "--out", str(tmp_path / "q4"))
        exported = tmp_path / "q4.jsonl"
        assert found["written"] == [str(exported), str(tmp_path / "q4.csv")]
        assert read_rows(str(exported)) == read_rows(str(database))
        database.unlink()
        assert answer(capsys, "verify", str(exported))["head"] == found["head"]
        assert len(answer(capsys, "spend", str(exported))["spent"]) == 5

    def test_export_table_has_a_line_a_release(self, database: Path, tmp_path: Path) -> None:
        """With what became of it; and no cell that a spreadsheet would run."""
        assert main(["export", str(database), "--out", str(tmp_path / "q4")]) == 0
        with (tmp_path / "q4.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert [line["state"] for line in lines] == [
            *("commit", "reserve", "void", "reserve", "reserve")
        ]
        assert [line["counts_as_spent"] for line in lines] == ["yes", "yes", "no", "yes", "yes"]
        assert (lines[0]["accepted_reports"], lines[0]["budget_epsilon"]) == ("17", "4.0")
        assert (lines[1]["rounds"], lines[1]["max_participations"]) == ("10", "2")
        assert lines[4]["population"].startswith("'=")

    def test_export_of_a_tampered_ledger_writes_nothing(
        self, database: Path, tmp_path: Path
    ) -> None:
        """A regulator gets no table that nobody can vouch for."""
        forge(database, "DELETE FROM ledger WHERE seq = 1")
        assert main(["export", str(database), "--out", str(tmp_path / "q4")]) == 1
        assert list(tmp_path.glob("q4*")) == []

    def test_export_line_that_was_changed_breaks_the_chain(
        self, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The export is as tamper-evident as the ledger."""
        assert main(["export", str(database), "--out", str(tmp_path / "q4")]) == 0
        exported = tmp_path / "q4.jsonl"
        exported.write_text(exported.read_text().replace('"accepted\\":17', '"accepted\\":18'))
        with pytest.raises(Exception, match="row 2"):
            verify_chain(read_rows(str(exported)))
        assert main(["verify", str(exported)]) == 1
        assert "row 2" in capsys.readouterr().err


def no_database(tmp_path: Path) -> str:
    """A text file."""
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list, long enough to be no empty database file" * 20)
    return str(path)


def other_database(tmp_path: Path) -> str:
    """SQLite without a ledger."""
    path = tmp_path / "other.sqlite"
    forge(path, "CREATE TABLE something (id INTEGER)")
    return str(path)


def broken_export(tmp_path: Path) -> str:
    """JSON lines of something else."""
    path = tmp_path / "other.jsonl"
    path.write_text('{"seq": 1}\n')
    return str(path)


class TestMistakes:
    """One line on stderr, exit code 2, nothing created."""

    @pytest.mark.parametrize("command", ["ledger", "spend", "verify"])
    @pytest.mark.parametrize(
        ("make", "part"),
        [
            (lambda path: str(path / "absent.sqlite"), "there is no file"),
            (lambda path: f"sqlite:///{path / 'absent.sqlite'}", "there is no file"),
            (lambda path: "sqlite://", "there is no file"),  # noqa: ARG005
            (str, "there is no file"),
            (no_database, "there is no ledger"),
            (other_database, "no such table"),
            (broken_export, "other.jsonl, line 1"),
            (lambda path: "nonsense://x", "no database URL"),  # noqa: ARG005
            (lambda path: "mysql+nothing://x/y", "no database URL"),  # noqa: ARG005
        ],
    )
    def test_source_that_is_no_ledger_is_refused(
        self,
        command: str,
        make: Callable[[Path], str],
        part: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Whatever was named."""
        source = make(tmp_path)
        before = sorted(tmp_path.iterdir())
        assert main([command, source]) == 2
        caught = capsys.readouterr()
        assert part in caught.err
        assert caught.err.startswith("homebody: error: ")
        assert caught.err.count("\n") == 1
        assert sorted(tmp_path.iterdir()) == before

    def test_unreachable_database_does_not_tell_the_password(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Error lines end up in logs."""
        pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
        url = "postgresql+psycopg://auditor:sesame@127.0.0.1:1/shop"
        assert main(["verify", url]) == 2
        caught = capsys.readouterr()
        assert "sesame" not in caught.err
        assert caught.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            (["spend"], "LEDGER"),
            (["spend", "X", "--delta", "0"], "between 0 and 1"),
            (["spend", "X", "--delta", "nan"], "between 0 and 1"),
            (["spend", "X", "--delta", "tiny"], "between 0 and 1"),
            (["spend", "X", "--population", "nobody"], "nothing was booked for population"),
            (["verify", "X", "--head", "7"], "ROW:HASH"),
            (["verify", "X", "--head", "seven:" + "0" * 64], "ROW:HASH"),
            (["verify", "X", "--depth", "3"], "unrecognized arguments"),
            (["export", "X"], "--out"),
            (["export", "X", "--out", "DIR/missing/q4"], "there is no folder"),
            (["export", "X", "--out", "DIR/taken"], "is there already"),
            (["audit", "X"], "invalid choice"),
        ],
    )
    def test_flag_that_makes_no_sense_is_one_line(
        self,
        words: list[str],
        part: str,
        database: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """No traceback, nothing half done."""
        (tmp_path / "taken.csv").write_text("mine")
        places = {"X": str(database), "DIR": str(tmp_path)}
        said = [places.get(word, word.replace("DIR", str(tmp_path))) for word in words]
        assert main(said) == 2
        caught = capsys.readouterr()
        assert part in caught.err
        assert caught.err.count("\n") == 1
        assert (tmp_path / "taken.csv").read_text() == "mine"
        assert not list(tmp_path.glob("**/*.jsonl"))

    @pytest.mark.parametrize("command", ["ledger", "spend", "verify", "export"])
    def test_help_teaches_by_examples(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """On every command."""
        assert main([command, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out
