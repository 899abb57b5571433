"""Guardrails, journeys and content by signed release: swapped in use, or refused as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client_sdk import Homebody, ReleaseRejectedError
from client_sdk.experience.guardrails.matter import Never
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.journeys import JourneyStep, Programme
from client_sdk.signals.events import Event
from client_sdk.testing import FixedClock, MemoryKeyStore, sample_catalogue
from client_sdk.wire import ReleaseManifest, sha256_hex
from tests.client_sdk.experience.journeys.conftest import CART

if TYPE_CHECKING:
    from tests.client_sdk.delivery.conftest import Site

DAY_S = 86_400.0
CONTENT = """
[messages.noted]
safe = "plain"
[[messages.noted.variants]]
id = "plain"
text = "It is in your cart."
"""
GUARDRAILS = """
version = 1
name = "released"
[channels.web]
opt_in = false
per_day = 9
[channels.sms]
per_week = 1
"""
PARTS = {
    "guardrails.toml": GUARDRAILS.encode(),
    "cart.journey.toml": CART.encode(),
    "cart.content.toml": CONTENT.encode(),
}
OWN = GuardrailPolicy.from_toml("version = 1\n[channels.web]\nopt_in = false\nper_day = 9\n")
OpenDevice = Callable[[], Homebody]


def changed(*changes: tuple[str, str, str], version: int = 2) -> dict[str, bytes]:
    """The parts with other words in some files, and a journey of another version."""
    parts = {name: content.decode() for name, content in PARTS.items()}
    for name, old, new in (("cart.journey.toml", "version = 1", f"version = {version}"), *changes):
        assert old in parts[name]
        parts[name] = parts[name].replace(old, new)
    return {name: content.encode() for name, content in parts.items()}


def publish(site: Site, parts: Mapping[str, bytes]) -> int:
    """Publish catalogue, consent text and parts, as the operator does."""
    files = {**site.base, **parts}
    return site.repository.publish(files=files, aggregator_key=site.key).version


def sign_anything(site: Site, parts: Mapping[str, bytes]) -> None:
    """Sign parts that nobody read: what an operator with other tools could do."""
    files = {**site.base, **parts}
    hashes = {name: sha256_hex(content) for name, content in files.items()}
    draft = ReleaseManifest(
        version=1,
        created_at_s=0,
        minimum_sdk_version="0.1.0",
        aggregator_key=site.key,
        files=hashes,
        guarantee={},
    )
    repository = site.repository
    served = repository._metadata.served()
    repository._publish(served, repository.status().manifest, draft, files)


@pytest.fixture
def clock_of_device() -> FixedClock:
    """The device's time."""
    return FixedClock()


@pytest.fixture
def open_device(site: Site, tmp_path: Path, clock_of_device: FixedClock) -> Iterator[OpenDevice]:
    """Open one device, again after it was closed."""
    keys, opened = MemoryKeyStore(), []

    def open_it() -> Homebody:
        for home in opened:
            home.close()
        home = Homebody.open(
            tmp_path / "home",
            catalogue=sample_catalogue(),
            key_store=keys,
            clock=clock_of_device,
            server_url=site.url,
            trusted_root=site.repository.trusted_root(),
        )
        opened.append(home)
        return home

    yield open_it
    for home in opened:
        home.close()


def put_in_cart(home: Homebody, clock: FixedClock) -> JourneyStep:
    """Let the person put something in the cart, and the journey see it."""
    event = Event(kind="cart", time_s=clock.now_s(), item_id="mug")
    assert home.track_many([event]).stored == 1
    return home.journeys.step("cart", event)


def test_update_brings_journeys_that_speak_under_the_released_guardrails(
    site: Site, open_device: OpenDevice, clock_of_device: FixedClock
) -> None:
    """From a real repository over HTTP: the device had neither a journey nor guardrails."""
    publish(site, PARTS)
    home = open_device()
    assert dict(home.journeys.programmes) == {}
    assert home.update().updated
    home.consent.grant("personalise")
    (message,) = put_in_cart(home, clock_of_device).messages
    assert message.text == "It is in your cart."
    assert message.decision.policy == "released"
    assert home.decider().why(message.decision.decision_id).same


def test_update_in_the_middle_of_a_journey_keeps_state_and_caps(
    site: Site, open_device: OpenDevice, clock_of_device: FixedClock
) -> None:
    """The person stays where they were, hears the new words, and the old sends still count."""
    publish(site, PARTS)
    home = open_device()
    home.update()
    home.consent.grant("personalise")
    put_in_cart(home, clock_of_device)
    before = home.journeys.state("cart")
    assert before is not None
    publish(site, changed(("cart.content.toml", "It is in", "New words: in")))
    assert home.update().updated
    after = home.journeys.state("cart")
    assert after is not None
    assert (after.at, after.sent_s, after.version) == (before.at, before.sent_s, 2)
    event = Event(kind="purchase", time_s=clock_of_device.now_s(), item_id="mug")
    home.journeys.step("cart", event)
    home.journeys.forget("cart")
    assert put_in_cart(home, clock_of_device).messages[0].text == "New words: in your cart."
    home = open_device()
    assert home.journeys.programmes["cart"].journey.version == 2


def test_update_guardrails_count_from_the_next_decision_on(
    site: Site, open_device: OpenDevice, clock_of_device: FixedClock
) -> None:
    """They replace the app's file, and the rules that the app has in code still hold."""
    publish(site, PARTS)
    home = open_device()
    home.decider(OWN.and_also(Never(actions=frozenset({"cart/carted/noted"}))))
    home.update()
    home.consent.grant("personalise")
    (refused,) = put_in_cart(home, clock_of_device).messages
    assert not refused.shown
    assert "never" in refused.decision.reason
    home.decider(OWN)
    home.journeys.forget("cart")
    assert put_in_cart(home, clock_of_device).messages[0].decision.policy == "released"
    publish(site, {**PARTS, "guardrails.toml": PARTS["guardrails.toml"].replace(b"9", b"0")})
    home.update()
    home.journeys.forget("cart")
    (capped,) = put_in_cart(home, clock_of_device).messages
    assert "cap:web:day" in capped.decision.reason


BAD = [
    ("cart.journey.toml", 'to = "bought"', 'to = "bougth"', "cart.journey.toml, line 64: "),
    ("cart.journey.toml", "cap = 1, per", "per", "channels.sms.cap"),
    ("cart.journey.toml", 'journey = "cart"', 'journey = "kart"', "name of the file"),
    ("cart.journey.toml", "web =", "fax = { cap = 1, per = '1 day', opt_in = false }\nweb =",
     "expected a channel of guardrails.toml"),
    ("cart.content.toml", "messages.noted", "messages.nothing", "a message of the content file"),
    ("cart.content.toml", "your cart", "{town}", "without slots"),
    ("guardrails.toml", "per_week = 1", "per_weak = 1", "guardrails.toml, line "),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[3])
def test_part_that_is_not_as_promised_is_refused_and_the_old_one_stays(
    site: Site,
    open_device: OpenDevice,
    clock_of_device: FixedClock,
    bad: tuple[str, str, str, str],
) -> None:
    """The operator can't publish it; signed by other means, a device refuses all of the release."""
    publish(site, PARTS)
    home = open_device()
    home.update()
    *change, said = bad
    parts = changed((change[0], change[1], change[2]))
    with pytest.raises(ValueError, match="expected"):
        publish(site, parts)
    status = site.repository.status().manifest
    assert status is not None
    assert status.version == 1
    sign_anything(site, parts)
    with pytest.raises(ReleaseRejectedError) as caught:
        home.update()
    assert said in str(caught.value)
    assert home.journeys.programmes["cart"].journey.version == 1
    again = open_device()
    assert (again.version, again.journeys.programmes["cart"].journey.version) == (1, 1)
    again.consent.grant("personalise")
    assert put_in_cart(again, clock_of_device).messages[0].shown


def test_part_that_was_changed_after_signing_is_refused(
    site: Site, open_device: OpenDevice
) -> None:
    """The signature covers every part; the last good release stays in use."""
    publish(site, PARTS)
    home = open_device()
    home.update()
    publish(site, changed())
    target = site.target("cart.journey.toml")
    content = target.read_bytes()
    for path in target.parent.glob(f"{target.name}*"):
        path.unlink()
    target.write_bytes(content.replace(b"cap = 2", b"cap = 3"))
    with pytest.raises(ReleaseRejectedError):
        home.update()
    assert home.journeys.programmes["cart"].journey.version == 1


def test_rollback_brings_the_older_journey_back_with_its_people(
    site: Site, open_device: OpenDevice, clock_of_device: FixedClock
) -> None:
    """The journey's version falls, the release's rises; nobody loses their place or their caps."""
    publish(site, PARTS)
    publish(site, changed())
    home = open_device()
    home.update()
    home.consent.grant("personalise")
    put_in_cart(home, clock_of_device)
    site.repository.rollback(1)
    assert home.update().version == 3
    state = home.journeys.state("cart")
    assert state is not None
    assert (state.version, state.at, len(state.sent_s["web"])) == (1, "carted", 1)


def test_release_without_a_journey_leaves_the_apps_own(site: Site, open_device: OpenDevice) -> None:
    """What the app brought along counts until a release brings one of the name, and after."""
    home = open_device()
    own = Programme.from_toml(CART.replace("version = 1", "version = 9"), CONTENT)
    home.journeys.use(own)
    publish(site, PARTS)
    home.update()
    assert home.journeys.programmes["cart"].journey.version == 1
    publish(site, {})
    home.update()
    assert home.journeys.programmes["cart"] is own
    assert home.decider().policy == GuardrailPolicy()


@pytest.mark.parametrize(
    "names",
    [
        ["cart.journey.toml"],
        ["cart.content.toml"],
        ["run.py"],
        ["../x.journey.toml"],
        ["journey.toml"],
    ],
)
def test_manifest_file_that_is_no_part_makes_no_release(site: Site, names: list[str]) -> None:
    """Data of the known kinds only, each journey with its content; never code, never a path."""
    with pytest.raises(ValueError, match="a release has"):
        publish(site, {name: PARTS.get(name, b"x") for name in names})
    assert site.repository.status().manifest is None
