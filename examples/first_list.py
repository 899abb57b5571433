"""Ten lines to a first recommendation: offline, nothing to operate."""

import tempfile
from pathlib import Path

from client_sdk import Homebody
from client_sdk.wire import Catalogue, Item

shop = Catalogue(
    items=(
        Item(item_id="tea", name="Green tea", category="pantry"),
        Item(item_id="honey", name="Forest honey", category="pantry"),
        Item(item_id="lamp", name="Desk lamp", category="home"),
    )
)
with (
    tempfile.TemporaryDirectory() as folder,
    Homebody.open(Path(folder) / "ada", catalogue=shop) as home,
):
    home.consent.grant("personalise")  # the default is no
    home.track("purchase", item="tea")
    for item in home.rank(k=3):
        print(f"{item.name}: {item.reason}")
