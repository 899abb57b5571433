"""The data-protection summary: every number from the ledger, every text escaped, nothing loaded.

Longer than 400 lines because numbers, page, audit and command share one ledger and one repository.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aggregator.burn_down import HEIGHT, WIDTH, burn_down
from aggregator.ledger import Ledger
from aggregator.ledger_reading import booked, read_rows
from aggregator.privacy_commands import main
from aggregator.protection_summary import read_audit, render_summary, summarise
from aggregator.published import published_in
from aggregator.repository import Repository
from aggregator.summary_words import LEAVES, PURPOSES
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    Catalogue,
    Item,
    Purpose,
    TaskKind,
)
from models.card import Guarantee, ModelCard, ParityReport
from privacy.accounting import epsilon_pld
from privacy.budget import Budget, ScopeLimit
from privacy.chain import reservations_of, verify_chain
from privacy.errors import LedgerTamperedError
from tests.aggregator.test_privacy_commands import BUDGET, event, forge

NOW_S = 1_760_000_000.25
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>"
AUDIT = {
    "claimed_epsilon": 2.0,
    "estimated_epsilon": 1.9,
    "lower_bound": 0.7,
    "canaries": 1000,
    "holds": True,
    "looks": [{"name": "noise", "says": "as booked", "contradicts": False, "p_value": 0.4}],
}
VOID_ELEMENTS = {"meta", "br", "line", "path"}


class Outline(HTMLParser):
    """Collects what a browser would do; checks that elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that opens."""
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """An element closes the last one that is open."""
        if tag not in VOID_ELEMENTS:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect what a person reads."""
        if not self.open or self.open[-1] != "style":
            self.text += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def outline(page: str) -> Outline:
    """Read a page."""
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two commits, a void, a limit."""
    path = tmp_path / "shop.sqlite"
    limit = ScopeLimit(
        population="shop", budget=Budget(epsilon=3.0, delta=1e-6), purpose=Purpose.STATISTICS
    )
    ledger = Ledger(f"sqlite:///{path}", {"shop": BUDGET}, limits=[limit], now_s=lambda: NOW_S)
    ledger.commit(ledger.reserve(event(1)), 17)
    ledger.commit(ledger.reserve(event(2, kind=TaskKind.ITEM_STATISTICS)), 18)
    ledger.void(ledger.reserve(event(3)), "too few people came")
    ledger.close()
    return path


def summary_of(path: Path, **more: Any) -> dict[str, Any]:
    """Summarise a database."""
    return summarise(read_rows(str(path)), made_at_s=NOW_S, **more)


def card(**changes: Any) -> ModelCard:
    """A card that claims something."""
    values: dict[str, Any] = {
        "name": "ranker",
        "purpose": "order what is shown",
        "data_used": ("purchases",),
        "guarantee": Guarantee(
            epsilon=1.5, delta=1e-6, adjacency="one person", trust="the server", mechanism="Gauss"
        ),
        "parity": ParityReport(
            model_sha256="0" * 64,
            signatures=("infer",),
            operators=("ADD",),
            cases=12,
            largest_difference={"infer": 1e-7},
            tolerance=1e-5,
            runtime="litert",
            reference="tensorflow 2.21",
        ),
    }
    return ModelCard(**{**values, **changes})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A release without a model, then one with."""
    made = Repository.init(tmp_path / "releases", now_s=lambda: NOW_S)
    start = {
        CATALOGUE_FILE: Catalogue(
            items=(Item(item_id="tea", name="Tea", category="Drinks"),)
        ).to_bytes(),
        POLICY_FILE: DEFAULT_POLICY.to_bytes(),
    }
    made.publish(files=start, aggregator_key="1" * 64)
    learned = {TABLE_FILE: b"table", GRAPH_FILE: b"graph", CARD_FILE: card().to_bytes()}
    made.publish(files={**start, **learned}, aggregator_key="1" * 64)
    return tmp_path / "releases"


class TestSummarise:
    """The numbers."""

    def test_summary_states_what_the_accountants_say(self, database: Path) -> None:
        """Each scope by three accountants; the void is shown, and not counted."""
        (scope,) = summary_of(database)["scopes"]
        events = [event(1), event(2, kind=TaskKind.ITEM_STATISTICS)]
        total = scope["total"]
        assert total["epsilon_pld"] == pytest.approx(epsilon_pld(events, 1e-6))
        assert total["epsilon_pld"] <= total["epsilon_prv_bound"] <= total["epsilon_rdp"]
        assert (total["committed"], total["reserved"], total["voided"]) == (2, 0, 1)
        assert [each["purpose"] for each in scope["parts"]] == ["statistics", "train"]
        assert scope["limits"] == ["shop × statistics × all windows: ε 3 at δ 1e-06"]
        assert [each["reason"] for each in scope["voids"]] == ["too few people came"]
        assert [each["accepted"] for each in scope["releases"]] == [17, 18]

    def test_summary_has_the_ledgers_head(self, database: Path) -> None:
        """The one that verify would print, so that a print-out dates the book."""
        rows = read_rows(str(database))
        head = verify_chain(rows)
        assert summary_of(database)["ledger"]["head"] == f"{head.seq}:{head.hash}"

    def test_summary_burns_down_to_what_is_left(self, database: Path) -> None:
        """The last point is the budget less what was spent; it falls with every release."""
        (scope,) = summary_of(database)["scopes"]
        left = [point["epsilon_left"] for point in scope["burn_down"]["points"]]
        assert left == sorted(left, reverse=True)
        spent = scope["total"]["epsilon_pld"]
        assert left[-1] == pytest.approx(BUDGET.epsilon - spent, abs=1e-3)

    def test_burn_down_of_many_releases_stays_in_its_frame(self, tmp_path: Path) -> None:
        """A picture has at most sixty steps, the last release is one of them, all are inside."""
        path = tmp_path / "many.sqlite"
        ledger = Ledger(f"sqlite:///{path}", {"shop": BUDGET}, now_s=lambda: NOW_S)
        for number in range(1, 90):
            ledger.reserve(event(number, noise_multiplier=60.0))
        ledger.close()
        rows = read_rows(str(path))
        chart = burn_down(booked(rows, reservations_of(rows)))
        assert chart is not None
        assert len(chart["points"]) == 60
        assert chart["points"][-1]["releases"] == 89
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", chart["area"])]
        assert all(0 <= x <= WIDTH for x in numbers[::2])
        assert all(0 <= y <= HEIGHT for y in numbers[1::2])
        # The line ends at the height of what is left, between the budget's line and zero's.
        full, zero = chart["ticks"][0]["y"], chart["ticks"][-1]["y"]
        share = chart["points"][-1]["epsilon_left"] / BUDGET.epsilon
        end = float(chart["path"].rsplit(" ", 1)[1])
        assert end == pytest.approx(zero - share * (zero - full), abs=0.06)

    def test_burn_down_of_nothing_is_no_picture(self) -> None:
        """Nothing was booked."""
        assert burn_down([]) is None

    def test_summary_of_a_tampered_ledger_is_not_made(self, database: Path) -> None:
        """A wrong book states nothing."""
        forge(database, "UPDATE ledger SET body = replace(body, '9.0', '9.5') WHERE seq = 1")
        with pytest.raises(LedgerTamperedError):
            summary_of(database)

    def test_summary_of_an_empty_ledger_says_so(self) -> None:
        """Before the first release."""
        page = outline(render_summary(summarise([], made_at_s=NOW_S)))
        assert "Nothing was booked yet" in page.text
        assert "No audit was given" in page.text

    def test_summary_shows_cards_and_the_consent_texts_of_the_newest_release(
        self, database: Path, repository: Path
    ) -> None:
        """What devices were given, and what people were asked."""
        told = summary_of(database, releases=published_in(repository))
        assert [each["card"] is None for each in told["cards"]] == [True, False]
        assert told["cards"][1]["card"]["guarantee"]["epsilon"] == 1.5
        texts = {each["purpose"]: each["consent_text"] for each in told["purposes"]}
        assert texts["train"] == DEFAULT_POLICY.texts[Purpose.TRAIN]
        text = outline(render_summary(told)).text
        assert "order what is shown" in text
        assert "No model: nothing was learned" in text
        assert DEFAULT_POLICY.texts[Purpose.STATISTICS] in text

    def test_every_task_and_purpose_has_its_words(self) -> None:
        """A new task without a sentence of what it sends is caught here."""
        assert set(LEAVES) == set(TaskKind)
        assert set(PURPOSES) == set(Purpose)

    def test_summary_is_plain_json(self, database: Path, repository: Path) -> None:
        """For programs: it reads back as it was."""
        told = summary_of(
            database,
            releases=published_in(repository),
            audit=read_audit(json.dumps(AUDIT).encode()),
        )
        assert json.loads(json.dumps(told, allow_nan=False)) == told


class TestPage:
    """What is printed."""

    def test_page_needs_no_network_and_runs_nothing(self, database: Path) -> None:
        """No address, no script, no style from elsewhere; it has rules for paper."""
        page = render_summary(summary_of(database))
        seen = outline(page)
        assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
        assert not {"src", "href", "action", "data", "xlink:href"} & {n for n, _ in seen.attributes}
        assert "url(" not in page
        assert "@import" not in page
        assert "@media print" in page

    def test_page_is_accessible_in_structure(self, database: Path) -> None:
        """A language, one h1, captions, header cells with a scope, a picture with words."""
        seen = outline(render_summary(summary_of(database)))
        assert ("lang", "en") in seen.attributes
        assert seen.tags.count("h1") == 1
        assert seen.tags.count("table") == seen.tags.count("caption")
        assert seen.tags.count("th") == sum(1 for name, _ in seen.attributes if name == "scope")
        assert seen.tags.count("svg") == seen.tags.count("desc") == 1
        assert len(seen.ids) == len(set(seen.ids))
        labels = [v for name, v in seen.attributes if name == "aria-labelledby"]
        assert {word for label in labels for word in label.split()} <= set(seen.ids)
        levels = [int(tag[1]) for tag in seen.tags if re.fullmatch(r"h\d", tag)]
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_page_leaves_the_officers_lines_empty(self, database: Path) -> None:
        """Software states no legal basis."""
        page = render_summary(summary_of(database))
        assert re.search(r"Legal basis for train</th><td></td>", page)

    def test_page_escapes_every_text_of_ledger_card_and_audit(
        self, tmp_path: Path, repository: Path
    ) -> None:
        """Whoever may write a name, a window, a reason, a card or an audit runs nothing here."""
        path = tmp_path / "hostile.sqlite"
        ledger = Ledger(f"sqlite:///{path}", {HOSTILE: BUDGET}, now_s=lambda: NOW_S)
        ledger.commit(ledger.reserve(event(1, population=HOSTILE, window=HOSTILE)), 3)
        ledger.void(ledger.reserve(event(2, population=HOSTILE)), HOSTILE)
        ledger.close()
        hostile_card = card(name=HOSTILE, purpose=HOSTILE, data_used=(HOSTILE,))
        releases = [
            type(each)(manifest=each.manifest, card=hostile_card, policy=each.policy)
            for each in published_in(repository)
        ]
        look = {"name": HOSTILE, "says": HOSTILE, "contradicts": True}
        audit = read_audit(
            json.dumps({**AUDIT, "mechanism": HOSTILE, "looks": [look], "holds": False}).encode()
        )
        page = render_summary(summary_of(path, releases=releases, audit=audit))
        seen = outline(page)
        assert "script" not in seen.tags
        assert "img" not in seen.tags
        assert seen.text.count(HOSTILE) >= 10
        assert not any(name.startswith("on") for name, _ in seen.attributes)

    @pytest.mark.parametrize(
        ("holds", "says"), [(True, "did not contradict"), (False, "contradicts the claim")]
    )
    def test_page_says_what_the_audit_found(self, holds: bool, says: str, database: Path) -> None:
        """And that it is no proof; a failed one can't be overlooked."""
        audit = read_audit(json.dumps({**AUDIT, "holds": holds}).encode())
        assert says in outline(render_summary(summary_of(database, audit=audit))).text

    def test_page_marks_a_simulation_as_a_forecast(self, tmp_path: Path) -> None:
        """It claims nothing of the world, and says so beside the number."""
        from privacy.events import AssumedPopulation

        path = tmp_path / "forecast.sqlite"
        ledger = Ledger(f"sqlite:///{path}", {"shop": BUDGET}, now_s=lambda: NOW_S)
        ledger.reserve(event(1, assumed=AssumedPopulation(simulated_people=10, people=100)))
        ledger.close()
        text = outline(render_summary(summary_of(path))).text
        assert "A simulation: these numbers are a forecast" in text
        assert "(a forecast, no claim)" in text


class TestAudit:
    """What was printed by another command."""

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"[" * 100_000,
            json.dumps({**AUDIT, "claimed_epsilon": "2"}).encode(),
            json.dumps({**AUDIT, "lower_bound": None}).encode(),
            json.dumps({**AUDIT, "estimated_epsilon": float("nan")}).encode(),
            json.dumps({**AUDIT, "holds": 1}).encode(),
            json.dumps({**AUDIT, "canaries": True}).encode(),
            json.dumps({**AUDIT, "looks": "all"}).encode(),
            json.dumps({**AUDIT, "looks": [{"name": "a"}]}).encode(),
            b" " * 1_000_001,
        ],
    )
    def test_audit_of_another_form_is_refused(self, data: bytes) -> None:
        """Nothing is guessed into a verdict."""
        with pytest.raises(ValueError, match="audit"):
            read_audit(data)

    def test_audit_of_an_infinite_estimate_stays_json(self) -> None:
        """As Python's JSON writes it, and as the page says it."""
        audit = read_audit(json.dumps({**AUDIT, "estimated_epsilon": float("inf")}).encode())
        assert audit["estimated_epsilon"] == "infinite"


class TestCommand:
    """``homebody privacy summary``."""

    def test_command_writes_the_page_and_says_what_was_spent(
        self, database: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One file, and the numbers in the terminal."""
        audit, out = tmp_path / "audit.json", tmp_path / "summary.html"
        audit.write_text(json.dumps(AUDIT), encoding="utf-8")
        more = ["--repository", str(repository), "--audit", str(audit), "--out", str(out)]
        assert main(["summary", "--ledger", str(database), *more]) == 0
        said = capsys.readouterr().out
        assert "spent      ε" in said
        assert "the audit does not contradict the claim" in said
        assert f"wrote {out}" in said
        assert "Release 2" in outline(out.read_text(encoding="utf-8")).text

    def test_command_json_is_the_summary(
        self, database: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The same values that the page shows, at the δ that was asked for."""
        assert main(["summary", "--ledger", str(database), "--json", "--delta", "1e-5"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["scopes"][0]["total"]["delta"] == 1e-5
        assert told["scopes"] == summary_of(database, delta=1e-5)["scopes"]

    def test_command_of_a_tampered_ledger_writes_nothing(
        self, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 1, the row, and no page that somebody could print."""
        forge(database, "UPDATE ledger SET body = replace(body, '9.0', '9.5') WHERE seq = 1")
        out = tmp_path / "summary.html"
        assert main(["summary", "--ledger", str(database), "--out", str(out)]) == 1
        assert "ledger row 1" in capsys.readouterr().err
        assert not out.exists()

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--out", "{dir}/missing/a.html"], "there is no folder"),
            (["--out", "{dir}/shop.sqlite"], "is there already"),
            (["--audit", "{dir}/shop.sqlite"], "homebody privacy audit --json"),
            (["--audit", "{dir}/none.json"], "No such file"),
            (["--repository", "{dir}"], "no repository"),
            (["--delta", "2"], "delta lies between"),
            (["--ledger", "{dir}/none.sqlite"], "there is no file"),
        ],
    )
    def test_command_nonsense_is_one_clear_line(
        self, database: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No traceback, exit code 2, nothing written."""
        there = {path.name for path in database.parent.iterdir()}
        words = [word.format(dir=database.parent) for word in more]
        assert main(["summary", "--ledger", str(database), *words]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.startswith("homebody: error: ")
        assert said.count("\n") == 1
        assert {path.name for path in database.parent.iterdir()} == there
