"""What a repository of releases says of itself: manifests, cards and consent texts, read only.

Test: tests/aggregator/test_protection_summary.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aggregator.repository import Repository
from client_sdk.wire import CARD_FILE, POLICY_FILE, ConsentPolicy, ReleaseManifest
from models.card import ModelCard


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """One release of a repository.

    Attributes:
        manifest: What it is made of.
        card: Its model card; None where nothing was learned.
        policy: The consent texts that come with it.
    """

    manifest: ReleaseManifest
    card: ModelCard | None
    policy: ConsentPolicy


def published_in(directory: Path) -> tuple[PublishedRelease, ...]:
    """Read every release that was served, oldest first.

    Raises:
        RepositoryMissingError: there is no repository.
        ReleaseRepositoryError: it is damaged.
        CardFormatError: a card does not read.
    """
    repository = Repository(directory)
    found = []
    for manifest in repository.history():
        files = repository.files_of(manifest, of=lambda name: name in {CARD_FILE, POLICY_FILE})
        card = files.get(CARD_FILE)
        found.append(
            PublishedRelease(
                manifest=manifest,
                card=None if card is None else ModelCard.from_bytes(card),
                policy=ConsentPolicy.from_bytes(files[POLICY_FILE]),
            )
        )
    return tuple(found)
