"""What a thief has of a whole store: every room writes there, and none of it can be read."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client_sdk import CatalogueUpdates, CustomKind, Homebody, Item, SignalRules, Taxonomy
from client_sdk.errors import VaultError
from client_sdk.keys import FileKeyStore
from client_sdk.signals.vault import DATABASE_FILE
from client_sdk.testing import START_S, FixedClock, sample_catalogue
from tests.client_sdk.signals.test_stolen_store import forms

SECRETS = (
    *("green-tea", "purchase", "product_view", "product_id", "timestamp", "tasting_booked"),
    *("ada.lovelace@example.org", "pixel-phone", "blue teapot for two", "checkout-7f3a91"),
    *("kitchenware", "personalise", "learn from what you do", "autumn-lamp", "Autumn lamp"),
    *("through_page", "digest", "quarantine", "account-key", "whatsapp", "not an event"),
    *("velvet-curtain-letter", "velvet-curtain-arm", "bandit"),
)
RULES = SignalRules(taxonomy=Taxonomy([CustomKind(name="tasting_booked", meaning="Booked.")]))


def open_home(folder: Path) -> Homebody:
    """Open the store of one person."""
    return Homebody.open(
        folder, catalogue=sample_catalogue(), clock=FixedClock(START_S), rules=RULES
    )


def live(home: Homebody) -> None:
    """Do everything once that leaves something in the store."""
    home.consent.grant("personalise", "train", "statistics")
    home.track("purchase", item="green-tea", event_id="checkout-7f3a91", price=3.5)
    home.track("search", query="blue teapot for two")
    home.track("tasting_booked")
    home.track_many(
        [
            {
                "user_id": "ada.lovelace@example.org",
                "event": "product_view",
                "product_id": "green-tea",
                "timestamp": START_S - number,
                "device": "pixel-phone",
            }
            for number in range(600)
        ]
    )
    home.track_many([{"event": "cart", "timestamp": START_S, "x": "not an event"}], quarantine=True)
    home.preferences.more("kitchenware")
    home.preferences.allow_channel("whatsapp")
    home.preferences.less_item("green-tea")
    home.update_catalogue(
        CatalogueUpdates(added=(Item(item_id="autumn-lamp", name="Autumn lamp"),))
    )
    bandit = home.models.bandit("velvet-curtain-letter", n_features=2)
    bandit.update("velvet-curtain-arm", np.array([1.0, 0.0]), reward=1.0)
    home.models.keep()
    home.consent.withdraw("train")
    home.signals.tidy()
    home.rotate_keys()
    home.track("product_view", item="green-tea")


def shown_by(folder: Path) -> set[str]:
    """Give the secrets that the files of a folder show in any form."""
    content = b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(content) > 40_000
    return {
        secret
        for secret in SECRETS
        if any(form in content for form in forms(secret) if len(form) > 5)
    }


def test_stolen_home_open_closed_or_copied_shows_nothing(tmp_path: Path) -> None:
    """No item, kind, text, e-mail, wish or consent is in the database or its log."""
    folder = tmp_path / "ada"
    with open_home(folder) as home:
        live(home)
        wal = folder / f"{DATABASE_FILE}-wal"
        assert wal.stat().st_size > 0
        assert shown_by(folder) == set()
    assert shown_by(folder) == set()
    # The search can find what is there.
    (folder / "note.txt").write_text("a note on Green-Tea".replace("Green-Tea", "green-tea"[::-1]))
    assert shown_by(folder) == {"green-tea"}


def test_stolen_home_equal_events_are_not_equal_on_disk(tmp_path: Path) -> None:
    """A thief can't count how often the same thing was done."""
    folder = tmp_path / "ada"
    with open_home(folder) as home:
        home.consent.grant("personalise")
        for number in range(50):
            home.track("purchase", item="green-tea", event_id=f"e-{number:04}", time_s=START_S)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    connection = sqlite3.connect(copy / DATABASE_FILE)
    sealed = [value for (value,) in connection.execute("SELECT sealed FROM pages")]
    connection.close()
    assert len(sealed) == 50
    # The nonce and every block behind it: no two pages share one.
    blocks = [value[at : at + 16] for value in sealed for at in range(0, len(value) - 15, 16)]
    assert len(set(blocks)) == len(blocks)
    assert len({len(value) for value in sealed}) == 1


@pytest.mark.parametrize("when", ["open", "closed"])
def test_stolen_home_taken_before_the_erasure_never_opens_again(tmp_path: Path, when: str) -> None:
    """Files, log and key folder of before and after, in every combination, give nothing back."""
    folder, keys = tmp_path / "ada", tmp_path / "ada.keys"
    home = open_home(folder)
    live(home)
    if when == "closed":
        home.close()
    stolen = Path(shutil.copytree(folder, tmp_path / "stolen"))
    secrets = [path.read_bytes() for path in keys.iterdir()]
    if when == "closed":
        home = open_home(folder)
    home.erase()
    assert not [path for path in folder.iterdir() if path.stat().st_size]
    assert list(keys.iterdir()) == []
    opens: dict[str, Callable[[], object]] = {
        "with what is left of the keys": lambda: Homebody.open(
            stolen, key_store=FileKeyStore(keys)
        ),
        "with no keys": lambda: Homebody.open(stolen, key_store=FileKeyStore(tmp_path / "none")),
    }
    for how, open_again in opens.items():
        with pytest.raises(VaultError, match="key"):
            open_again()
        assert shown_by(stolen) == set(), how
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in left]
