"""The door in, over real HTTP: what comes through, within which limits, onto which disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client_sdk.delivery import Delivery, Limits, Release
from client_sdk.errors import ReleaseRejectedError, VaultError
from client_sdk.wire import CATALOGUE_FILE, TABLE_FILE, sha256_hex

if TYPE_CHECKING:
    from tests.client_sdk.delivery.conftest import HostileServer, MakeDelivery, Site


def table_of(delivery: Delivery) -> bytes | None:
    """What is in use."""
    release = delivery.active()
    return None if release is None else release.files[TABLE_FILE]


class TestFetch:
    """What works."""

    def test_first_fetch_brings_the_release_and_a_second_nothing(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Nothing newer is no error."""
        site.publish(b"one")
        delivery = make_delivery()
        assert delivery.active() is None
        release = delivery.fetch()
        assert release is not None
        assert release.manifest == site.repository.status().manifest
        assert dict(release.files) == site.files(b"one")
        assert delivery.fetch() is None
        assert delivery.active() == release

    def test_release_survives_a_restart_and_the_next_one_replaces_it(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """From disk, without the network."""
        site.publish(b"one")
        make_delivery().fetch()
        assert table_of(make_delivery(url="http://127.0.0.1:1")) == b"one"
        site.publish(b"two")
        release = make_delivery().fetch()
        assert release is not None
        assert release.manifest.version == 2
        assert table_of(make_delivery()) == b"two"

    def test_release_without_a_model_is_a_release(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Catalogue and policy come first."""
        site.repository.publish(files=site.base, aggregator_key=site.key)
        release = make_delivery().fetch()
        assert release is not None
        assert dict(release.files) == site.base

    def test_empty_repository_has_nothing_newer(self, make_delivery: MakeDelivery) -> None:
        """Before the first release."""
        assert make_delivery().fetch() is None

    def test_refreshed_timestamp_is_nothing_newer(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """The release is the same."""
        site.publish(b"one")
        make_delivery().fetch()
        site.repository.refresh_timestamp()
        assert make_delivery().fetch() is None

    def test_rolled_back_release_comes_as_a_new_one(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """The operator's way back."""
        site.publish(b"good")
        make_delivery().fetch()
        site.publish(b"bad")
        make_delivery().fetch()
        site.repository.rollback(1)
        release = make_delivery().fetch()
        assert release is not None
        assert (release.manifest.version, release.files[TABLE_FILE]) == (3, b"good")

    def test_device_that_skipped_releases_gets_the_newest(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Numbers may jump up."""
        for number in range(4):
            site.publish(b"%d" % number)
        release = make_delivery().fetch()
        assert release is not None
        assert release.manifest.version == 4

    def test_known_files_are_not_downloaded_again(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """A new table comes alone."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        hostile.asked.clear()
        site.publish(b"two")
        release = make_delivery(url=hostile.url).fetch()
        assert release is not None
        assert dict(release.files) == site.files(b"two")
        targets = [path for path in hostile.paths if path.startswith("/targets/2/")]
        assert targets == [f"/targets/2/{sha256_hex(b'two')}.{TABLE_FILE}"]

    def test_requests_carry_nothing_about_the_device(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """Three headers, the same for everyone."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        sent = [
            {name: value for name, value in headers.items() if name != "Host"}
            for _, headers in hostile.asked
        ]
        expected = {"User-Agent": "homebody/0.1.0", "Accept-Encoding": "gzip"}
        assert all(headers == expected for headers in sent)

    @pytest.mark.parametrize("url", ["ftp://host", "host:80", "", "file:///etc", "http://"])
    def test_server_that_is_no_web_server_is_a_mistake(
        self, url: str, site: Site, tmp_path: Path
    ) -> None:
        """Told when the delivery is made."""
        with pytest.raises(ValueError, match="server_url"):
            Delivery(tmp_path, url, site.repository.trusted_root())


class TestCheck:
    """The app's own last word."""

    def test_release_that_fails_the_check_is_not_put_to_use(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """And is offered again, in case the check can pass later."""
        site.publish(b"one")
        make_delivery().fetch()
        site.publish(b"two")

        def refuse(release: Release) -> None:
            raise ReleaseRejectedError(f"release {release.manifest.version} scores wrong")

        with pytest.raises(ReleaseRejectedError, match="scores wrong"):
            make_delivery(check=refuse).fetch()
        assert table_of(make_delivery()) == b"one"
        seen: list[Release] = []
        release = make_delivery(check=seen.append).fetch()
        assert seen == [release]


class TestLimits:
    """Sizes, told by the signed metadata before anything is downloaded."""

    @pytest.mark.parametrize(
        "limits",
        [
            {"max_manifest_bytes": 100},
            {"max_metadata_bytes": 300},
            {"max_file_bytes": 4999},
            {"max_release_bytes": 5100},
        ],
    )
    def test_release_beyond_a_limit_is_refused(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        limits: dict[str, Any],
    ) -> None:
        """Signed or not."""
        site.publish(b"x" * 5000)
        with pytest.raises(ReleaseRejectedError):
            make_delivery(url=hostile.url, limits=Limits(**limits)).fetch()
        assert not [path for path in hostile.paths if path.startswith("/targets/1/")]

    def test_release_for_a_newer_sdk_is_refused_before_it_is_downloaded(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """The last good one stays until the app is updated."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        hostile.asked.clear()
        site.publish(b"two", minimum_sdk_version="99.0.0")
        with pytest.raises(ReleaseRejectedError, match=r"needs SDK 99\.0\.0"):
            make_delivery(url=hostile.url).fetch()
        assert not [path for path in hostile.paths if path.startswith("/targets/2/")]
        assert table_of(make_delivery()) == b"one"


class TestDisk:
    """What happens to the device's disk."""

    def test_damaged_release_is_fetched_again(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """Although the repository has nothing newer."""
        site.publish(b"one")
        make_delivery().fetch()
        (path,) = (tmp_path / "device" / "releases").iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        assert make_delivery().active() is None
        release = make_delivery().fetch()
        assert release is not None
        assert table_of(make_delivery()) == b"one"

    def test_damaged_newest_release_gives_way_to_the_one_before(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """And comes back with the next fetch."""
        for table in (b"one", b"two"):
            site.publish(table)
            make_delivery().fetch()
        newest = max((tmp_path / "device" / "releases").iterdir())
        newest.write_bytes(b"damaged")
        assert table_of(make_delivery()) == b"one"
        assert make_delivery().fetch() is not None
        assert table_of(make_delivery()) == b"two"

    @pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
    def test_damaged_metadata_on_the_device_is_fetched_again(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path, name: str
    ) -> None:
        """It is a cache."""
        site.publish(b"one")
        make_delivery().fetch()
        (tmp_path / "device" / "tuf" / name).write_bytes(b"\xff")
        site.publish(b"two")
        assert make_delivery().fetch() is not None

    def test_disk_that_refuses_is_a_clear_error(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """A file stands where the folder should be."""
        site.publish(b"one")
        (tmp_path / "device").write_bytes(b"")
        with pytest.raises(VaultError, match="delivery folder"):
            make_delivery().fetch()
        assert make_delivery().active() is None

    def test_trusted_root_that_is_none_is_refused(self, site: Site, tmp_path: Path) -> None:
        """An app that embedded the wrong file."""
        site.publish(b"one")
        delivery = Delivery(tmp_path / "device", site.url, b"{}", limits=Limits(timeout_s=1.0))
        with pytest.raises(ReleaseRejectedError):
            delivery.fetch()

    def test_catalogue_comes_through_unchanged(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Over the wire, through compression, to disk and back."""
        site.publish(b"one")
        make_delivery().fetch()
        active = make_delivery().active()
        assert active is not None
        assert active.files[CATALOGUE_FILE] == site.base[CATALOGUE_FILE]
