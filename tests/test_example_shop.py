"""The sample shop, as a person uses it in a real browser, and as somebody unkind calls its API.

The browser's tests are skipped where there is no chromium, no chromedriver or no selenium.

More than 400 lines: the browser's tests and the API's share the running shop, and one of them
changes nothing of it for the others.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
APP = ROOT / "examples" / "shop" / "app.py"
WAIT_S = 10
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1400",
)
EVERYBODYS = ["house-coffee", "green-tea", "oats", "blue-mug", "basil", "honey"]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A shop that runs: its address, as printed."""

    url: str

    @property
    def origin(self) -> str:
        """The address without the key."""
        return self.url.partition("/#")[0]

    @property
    def token(self) -> str:
        """The key of this start."""
        return self.url.partition("#")[2]

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        **headers: str,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send one request as it is; header names are written with an underscore."""
        host = self.origin.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=WAIT_S)
        given = {"X-Shop-Token": self.token, "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the API as the page does, and expect that it worked."""
        data = None if body is None else json.dumps(body).encode()
        status, answer, _ = self.ask(f"/api/{path}", data)
        assert status == 200, answer
        read: dict[str, Any] = json.loads(answer)
        return read


@contextmanager
def running(store: Path) -> Iterator[Shop]:
    """Start the shop as a process whose warnings are errors; it has to end well, and silently."""
    command = [sys.executable, "-W", "error", str(APP), "--store", str(store)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[\w-]{32}", url), url
            yield Shop(url=url)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                rest, errors = process.communicate(timeout=WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert (rest, errors, process.returncode) == ("", "", 0)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """One for this test alone."""
    with running(tmp_path / "store") as started:
        yield started


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all tests that change nothing of it."""
    with running(tmp_path_factory.mktemp("shop") / "store") as started:
        yield started


class Page:
    """What a person sees and does on the page."""

    def __init__(self, driver: Any, shop: Shop) -> None:
        self.driver = driver
        self.shop = shop
        self.driver.get(shop.url)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has drawn what came back."""
        waiting = pytest.importorskip("selenium.webdriver.support.ui")
        waiting.WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02).until(
            lambda driver: driver.execute_script(
                "return document.body.dataset.ready === 'true' "
                "&& !document.body.hasAttribute('aria-busy')"
            )
        )

    def find(self, selector: str) -> Any:
        """Give the first element that fits."""
        return self.driver.find_element("css selector", selector)

    def press(self, key: str) -> None:
        """Click what has a key, or the element of an id; a card's menu is opened first."""
        element = self.find(key if key.startswith("#") else f'[data-key="{key}"]')
        if not element.is_displayed():
            self.find(f'[data-key="{key.rsplit(":", 1)[0]}:summary"]').click()
        element.click()
        self.settle()

    def search(self, query: str) -> None:
        """Type into the search box, and press Enter."""
        box = self.find("#query")
        box.clear()
        box.send_keys(f"{query}\n")
        self.settle()

    def shelf(self, where: str = "shelf") -> list[str]:
        """The ids of the items, in the order of the page."""
        script = "return [...document.querySelectorAll(arguments[0])].map((li) => li.dataset.item)"
        items: list[str] = self.driver.execute_script(script, f"#{where} > li")
        return items

    def reason(self, item: str) -> str:
        """Why an item is on the shelf."""
        return self.text(f'#shelf [data-item="{item}"] .reason')

    def text(self, selector: str) -> str:
        """What can be read there."""
        words: str = self.find(selector).text
        return words

    def has(self, selector: str) -> bool:
        """Whether there is such an element."""
        return bool(self.driver.find_elements("css selector", selector))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser without a head; it may say nothing to anybody but the shop."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    service = pytest.importorskip("selenium.webdriver.chrome.service", reason="needs selenium")
    browser = shutil.which("chromium")
    program = shutil.which("chromedriver")
    if browser is None or program is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=service.Service(executable_path=program))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def page(driver: Any, shop: Shop) -> Iterator[Page]:
    """A page that nobody used; at the end the browser may have complained of nothing."""
    driver.get_log("browser")
    yield Page(driver, shop)
    assert driver.get_log("browser") == []


@pytest.fixture
def first_page(driver: Any, one_shop: Shop) -> Iterator[Page]:
    """A page of the shop that nobody says yes to."""
    driver.get_log("browser")
    yield Page(driver, one_shop)
    assert driver.get_log("browser") == []


def test_page_before_consent_shows_everybodys_list_and_keeps_nothing(first_page: Page) -> None:
    """The default is no: a purchase is not noted, and the list stays."""
    page = first_page
    assert page.shelf()[:6] == EVERYBODYS
    before = page.shelf()
    page.press("shelf:basil:purchase")
    assert page.text("#status") == "You bought Basil seeds. Nothing was noted."
    assert page.shelf() == before
    assert page.text("#known") == "Nothing is read: there is no yes, or a pause."
    assert page.text("#left") == "Nothing has left this device."
    assert page.text("#mode") == "Everybody's shop"
    assert page.text("#personalise-text").startswith("This app may learn from what you do")


def test_page_after_consent_sorts_for_the_person_with_true_reasons(page: Page) -> None:
    """The list follows what was done, and each reason names it."""
    page.press("consent:personalise")
    assert page.shelf()[:6] == EVERYBODYS
    page.press("shelf:oats:view")
    page.press("shelf:black-tea:purchase")
    assert page.text("#status") == "You bought Black tea. It was noted on this device."
    assert page.shelf()[0] == "black-tea"
    assert page.reason("black-tea") == "You bought it."
    assert page.reason("oats") == "You looked at it."
    assert page.reason("green-tea") == "Because you bought Black tea."
    assert "You bought something less than a day ago." in page.text("#known")
    assert page.text("#kept") == "2 events are kept on this device, encrypted."


def test_page_withdrawal_shows_everybodys_list_and_no_feature_at_once(page: Page) -> None:
    """The same page, not loaded again, knows nothing of the person."""
    page.driver.execute_script("window.same = true")
    page.press("channel:in-app")
    page.press("consent:personalise")
    page.press("shelf:black-tea:purchase")
    page.press("#ask")
    assert page.has("#tray .message")
    assert page.shelf()[0] == "black-tea"
    page.press("consent:personalise")
    assert page.shelf()[:6] == EVERYBODYS
    assert page.reason("black-tea") == "From the catalogue."
    assert page.text("#known") == "Nothing is read: there is no yes, or a pause."
    assert not page.has("#tray .message")
    assert page.text("#mode") == "Everybody's shop"
    assert page.driver.execute_script("return window.same")
    page.press("#ask")
    page.press("message:open")
    assert page.text("#tray h3") == "The house shelf"
    assert "There is no consent to personalise" in page.text("#tray .reason")
    page.press("message:why")
    assert page.text("#why .badge") == "Not in the log."
    page.press("message:dismiss")
    page.press("#ask")
    assert page.text("#tray h3") == "Nothing for now"


def test_page_search_puts_what_suits_the_person_first(page: Page) -> None:
    """The same items are found for everybody, in the person's order."""
    page.search("Tea")
    everybodys = page.shelf("found")
    assert everybodys == ["green-tea", "black-tea", "teapot", "mint-tea", "oolong", "chamomile"]
    page.press("consent:personalise")
    page.press("found:chamomile:purchase")
    # The results on the page are sorted anew, without another search.
    assert page.shelf("found")[0] == "chamomile"
    assert sorted(page.shelf("found")) == sorted(everybodys)
    page.search("leaf organic")
    assert page.shelf("found") == ["green-tea"]
    page.search("nothing like this")
    assert page.shelf("found") == []
    assert page.text("#nothing-found") == "Nothing here has all of these words."
    page.press("#clear-search")
    assert not page.find("#found-section").is_displayed()


def test_page_less_of_this_moves_the_item_then_the_topic_down(page: Page) -> None:
    """What is wanted less drops off the shelf, and can be taken back."""
    page.press("consent:personalise")
    page.press("shelf:green-tea:purchase")
    assert page.shelf()[0] == "green-tea"
    page.press("shelf:green-tea:less item")
    assert "green-tea" not in page.shelf()
    assert "oolong" in page.shelf()
    page.press("shelf:oolong:less")
    assert not {"green-tea", "black-tea", "oolong", "mint-tea"} & set(page.shelf())
    assert "Less of\nTea" in page.text("#preferences")
    page.press("forget:Tea")
    page.press("forget:green-tea")
    assert page.shelf()[0] == "green-tea"
    page.press("topic:more:Garden")
    assert page.reason("basil") == "Because you asked for more Garden."


def test_page_message_gives_reason_and_why_then_goes_when_dismissed(page: Page) -> None:
    """One message at a time, with its decision; none by a closed channel."""
    page.press("#ask")
    assert page.text("#tray h3") == "Nothing for now"
    assert page.text("#tray .reason").startswith("We suggested nothing: you have not said yes")
    page.press("message:dismiss")
    page.press("consent:personalise")
    page.press("shelf:blue-mug:cart")
    page.press("channel:in-app")
    page.press("#ask")
    title = page.text("#tray h3")
    assert title.startswith("For you: ")
    assert not page.has("#tray .reason")
    page.press("message:open")
    assert page.text("#tray .reason").endswith(".")
    assert "Confidence 50 %" in page.text("#tray")
    page.press("message:why")
    assert page.text("#why .badge") == "Replayed: the same."
    assert f"We suggested {title.removeprefix('For you: ')}" in page.text("#why")
    assert "The idea came from your shelf." in page.text("#why")
    assert "We left out The weekly letter: you have not said yes to" in page.text("#why")
    assert "eligibility" not in page.text("#why")
    page.press("message:dismiss")
    assert not page.has("#tray .message")
    # What was dismissed does not come again, whatever is drawn.
    titles = [title]
    for _ in range(3):
        page.press("#ask")
        titles.append(page.text("#tray h3"))
        page.press("message:dismiss")
    assert len(set(titles)) == 4
    assert all(each.startswith("For you: ") for each in titles)
    page.press("#ask")
    page.press("channel:in-app")
    assert page.text("#tray").startswith("Messages are off: no channel is open.")
    page.press("#ask")
    assert page.text("#tray h3") == "Nothing for now"


def test_page_pause_reads_nothing_until_it_is_over(page: Page) -> None:
    """A pause is no withdrawal: afterwards the list is theirs again."""
    page.press("consent:personalise")
    page.press("shelf:oats:purchase")
    page.press("pause:24")
    assert page.shelf()[:6] == EVERYBODYS
    assert page.text("#mode") == "Paused"
    assert "Paused until" in page.text("#wishes")
    page.press("pause:end")
    assert page.shelf()[0] == "oats"


def test_page_reload_and_restart_keep_what_was_set(page: Page, tmp_path: Path, driver: Any) -> None:
    """A reload keeps the message too; a restart, what is in the store."""
    page.press("consent:personalise")
    page.press("shelf:honey:purchase")
    page.press("topic:less:Coffee")
    page.press("channel:in-app")
    page.press("#ask")
    shelf, tray = page.shelf(), page.text("#tray h3")
    driver.refresh()
    page.settle()
    assert (page.shelf(), page.text("#tray h3")) == (shelf, tray)
    assert page.find('[data-key="consent:personalise"]').is_selected()

    with running(tmp_path / "again") as other:
        kept = Page(driver, other)
        assert kept.shelf()[:6] == EVERYBODYS
        kept.press("consent:personalise")
        kept.press("topic:less:Coffee")
        less = kept.shelf()
    with running(tmp_path / "again") as other:
        assert Page(driver, other).shelf() == less
        assert "house-coffee" not in less


def test_page_export_gives_the_person_everything(page: Page, tmp_path: Path) -> None:
    """The browser saves one file with what was done, agreed to and decided."""
    page.driver.execute_cdp_cmd(
        "Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
    )
    page.press("consent:personalise")
    page.press("shelf:honey:purchase")
    page.press("channel:in-app")
    page.press("#ask")
    page.press("#export")
    assert page.text("#status") == "Your data is in your downloads: my-data.jsonl."
    file = tmp_path / "saved" / "my-data.jsonl"
    until = time.monotonic() + WAIT_S
    while not file.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {"device", "preferences", "event", "consent", "decision"} <= {
        line["type"] for line in lines
    }
    assert any(line.get("product_id") == "honey" for line in lines)


def test_page_erase_asks_once_more_then_nobody_is_known(page: Page, tmp_path: Path) -> None:
    """Keeping keeps; erasing destroys the store on disk, and the shop goes on with nobody."""
    page.press("consent:personalise")
    page.press("topic:less:Coffee")
    page.press("shelf:kettle:purchase")
    page.press("channel:in-app")
    page.press("#ask")
    page.press("#erase")
    page.press("#erase-no")
    assert page.shelf()[0] == "kettle"
    assert not page.find("#erase-sure").is_displayed()
    store = tmp_path / "store"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert before
    page.press("#erase")
    page.press("#erase-yes")
    assert page.text("#status") == "Everything is erased. The shop does not know you."
    assert not page.find("#erase-sure").is_displayed()
    assert page.shelf()[:6] == EVERYBODYS
    assert not page.find('[data-key="consent:personalise"]').is_selected()
    assert "Coffee" not in page.text("#wishes")
    assert page.text("#tray").startswith("Messages are off")
    assert page.text("#known") == "Nothing is read: there is no yes, or a pause."
    # The keys that opened the old files are gone: none of them is there as it was.
    assert not any(
        path.is_file() and path.read_bytes() == data
        for path, data in before.items()
        if "keys" in str(path.parent)
    )
    # The shop goes on, and may get to know somebody anew.
    page.press("consent:personalise")
    page.press("shelf:oats:purchase")
    assert page.shelf()[0] == "oats"


def test_page_by_keyboard_keeps_the_focus_and_every_control_has_a_name(page: Page) -> None:
    """The focus follows the item to its new place."""
    consent = page.find('[data-key="consent:personalise"]')
    consent.send_keys(" ")
    page.settle()
    buy = page.find('[data-key="shelf:kettle:purchase"]')
    buy.send_keys("\n")
    page.settle()
    assert page.shelf()[0] == "kettle"
    assert page.driver.switch_to.active_element.get_attribute("data-key") == "shelf:kettle:purchase"
    page.press("channel:in-app")
    page.press("topic:less:Coffee")
    page.press("#ask")
    page.press("message:open")
    page.search("tea")
    page.driver.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    for _ in range(2):
        controls = page.driver.find_elements("css selector", "button, input, summary, meter")
        shown = [control for control in controls if control.is_displayed()]
        for control in shown:
            name = control.accessible_name
            assert any(char.isalpha() for char in name), control.get_attribute("outerHTML")
        # The second time with the question that stands behind a button.
        page.press("#erase" if page.find("#erase").is_displayed() else "#erase-no")
    assert len(shown) > 60
    script = "return [...document.querySelectorAll('input')].filter((i) => !i.labels.length).length"
    assert page.driver.execute_script(script) == 0


def test_page_loads_from_its_own_address_only(first_page: Page) -> None:
    """No font, no script, no picture from elsewhere."""
    page = first_page
    page.search("tea")
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    loaded = page.driver.execute_script(script)
    assert len(loaded) >= 4
    assert [url for url in loaded if not url.startswith(f"{page.shop.origin}/")] == []


def test_page_without_the_token_shows_nothing_of_the_person(first_page: Page) -> None:
    """Who knows the port only sees an empty page."""
    page = first_page
    page.driver.get("about:blank")
    page.driver.get(f"{page.shop.origin}/")
    assert page.text("#status").startswith("Open the whole address")
    assert page.shelf() == []


def test_page_says_what_went_wrong_and_goes_on(page: Page) -> None:
    """An error of the API is one sentence on the page."""
    script = "act('/api/wish', {wish: 'more', about: ' '}, 'done')"
    page.driver.execute_script(script)
    page.settle()
    assert page.text("#status").startswith("That did not work: topic: expected 1 to 128")
    [entry] = page.driver.get_log("browser")
    assert "422" in entry["message"]
    page.press("consent:personalise")
    assert page.text("#status") == "You said yes."


UNKIND: tuple[tuple[str, str, Any, int], ...] = (
    ("no JSON", "did", b"{", 400),
    ("other bytes", "did", b"\xff\xfe", 400),
    ("too deep", "did", b"[" * 4000, 400),
    ("nothing", "did", b"", 422),
    ("a list", "did", [], 422),
    ("no field", "did", {}, 422),
    ("another field", "did", {"kind": "view", "item": "oats", "mallory": 1}, 422),
    ("another kind", "did", {"kind": "mallory", "item": "oats"}, 422),
    ("another type", "did", {"kind": "view", "item": 5}, 422),
    ("half a character", "did", b'{"kind": "view", "item": "\\ud800"}', 422),
    ("too long", "did", {"kind": "view", "item": "mallory" * 30}, 422),
    ("an unknown item", "did", {"kind": "view", "item": "mallory"}, 404),
    ("an unknown item", "wish", {"wish": "less item", "about": "mallory"}, 404),
    ("an unknown channel", "wish", {"wish": "allow channel", "about": "mallory"}, 404),
    ("a blank topic", "wish", {"wish": "more", "about": " "}, 422),
    ("an unknown purpose", "consent", {"purpose": "mallory", "granted": True}, 422),
    ("a yes in words", "consent", {"purpose": "train", "granted": "yes"}, 422),
    ("a negative pause", "pause", {"hours": -1}, 422),
    ("erased, but not sure", "erase", {"sure": False}, 422),
    ("erased without a word", "erase", {}, 422),
    ("an endless pause", "pause", {"hours": 10**9}, 422),
    ("no number", "pause", b'{"hours": NaN}', 422),
    ("another zone", "message/ask", {"utc_offset_s": 10**6}, 422),
    ("no such message", "message/open", {"message": "mallory"}, 404),
    ("no such message", "message/why", {"message": "mallory"}, 404),
    ("no such message", "message/end", {"message": "mallory", "accepted": True}, 404),
    ("a long query", "search", {"query": "mallory" * 30, "typed": True}, 422),
    ("a long body", "search", b" " * 5000, 413),
    ("no such call", "mallory", {}, 404),
    ("another method", "state", {}, 405),
)


@pytest.mark.parametrize(("_", "path", "body", "status"), UNKIND)
def test_api_with_nonsense_answers_one_json_error(
    one_shop: Shop, _: str, path: str, body: Any, status: int
) -> None:
    """A 4xx with one clear error, which repeats nothing; nothing changes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    before = one_shop.call("state")
    got, answer, headers = one_shop.ask(f"/api/{path}", data)
    assert got == status, answer
    assert headers["content-type"] == "application/json"
    error = json.loads(answer)
    assert list(error) == ["error"]
    assert error["error"]
    # What came is not repeated, and nothing of it was done.
    assert b"mallory" not in answer
    assert b"Traceback" not in answer
    assert one_shop.call("state") == before


@pytest.mark.parametrize("token", ["", "wrong", "ü", "x" * 32])
def test_api_with_a_wrong_token_answers_nothing(one_shop: Shop, token: str) -> None:
    """Neither a read nor a change without the token of this start."""
    for path, body in (("state", None), ("consent", b'{"purpose":"train","granted":true}')):
        status, answer, _ = one_shop.ask(f"/api/{path}", body, X_Shop_Token=token)
        assert status == 403
        assert list(json.loads(answer)) == ["error"]
    assert not any(one["granted"] for one in one_shop.call("state")["consent"])


@pytest.mark.parametrize("host", ["mallory.example", "localhost:1", "127.0.0.1"])
def test_server_under_another_name_answers_nothing(one_shop: Shop, host: str) -> None:
    """A name that somebody points at this machine reaches nothing."""
    for path in ("/", "/static/app.js", "/api/state"):
        status, answer, _ = one_shop.ask(path, Host=host)
        assert status == 421
        assert list(json.loads(answer)) == ["error"]


def test_server_without_a_length_refuses_the_body(one_shop: Shop) -> None:
    """A body without an end is not read."""
    host = one_shop.origin.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=WAIT_S)
    headers = {"X-Shop-Token": one_shop.token, "Transfer-Encoding": "chunked"}
    try:
        connection.request("POST", "/api/search", iter([b"{}"]), headers, encode_chunked=True)
        assert connection.getresponse().status == 411
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/static/../app.py", "/x"])
def test_server_closes_every_answer_to_other_pages(one_shop: Shop, path: str) -> None:
    """The headers are on errors too, and nothing above static is served."""
    status, _, headers = one_shop.ask(path)
    assert status == (404 if path in ("/static/../app.py", "/x") else 200)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_letter_opens_with_its_channel_and_keeps_the_quiet_hours(shop: Shop) -> None:
    """At night there is none; at noon one, and no second one that day."""
    # One zone where it is noon now, and one where it is midnight.
    shop.call("consent", {"purpose": "personalise", "granted": True})
    shop.call("wish", {"wish": "allow channel", "about": "email"})
    noon, night = (offset_to(hour) for hour in (12, 0))
    message = shop.call("message/ask", {"utc_offset_s": night})["message"]
    assert message["nothing"]
    message = shop.call("message/ask", {"utc_offset_s": noon})["message"]
    assert (message["channel"], message["title"]) == ("email", "The weekly letter")
    shop.call("message/end", {"message": message["id"], "accepted": True})
    assert shop.call("message/ask", {"utc_offset_s": noon})["message"]["nothing"]


def offset_to(hour: int) -> int:
    """Local time minus UTC where it is about this hour now, seconds within 15 hours."""
    away = (hour - time.gmtime().tm_hour) % 24
    return (away - 24 if away > 12 else away) * 3600


def test_message_accepted_is_noted_as_a_look_at_its_item(shop: Shop) -> None:
    """Taking a message up counts as a look."""
    shop.call("consent", {"purpose": "personalise", "granted": True})
    shop.call("wish", {"wish": "allow channel", "about": "in-app"})
    message = shop.call("message/ask", {"utc_offset_s": 0})["message"]
    shop.call("message/open", {"message": message["id"]})
    state = shop.call("message/end", {"message": message["id"], "accepted": True})
    assert state["message"] is None
    assert state["shelf"][0]["id"] == message["item"]
    assert state["shelf"][0]["reason"] == "You looked at it."


def test_message_against_a_new_wish_leaves_the_page(shop: Shop) -> None:
    """A wish counts for what is in the tray already."""
    shop.call("consent", {"purpose": "personalise", "granted": True})
    for wish in ("less item", "less", "refuse channel"):
        shop.call("wish", {"wish": "allow channel", "about": "in-app"})
        state = shop.call("message/ask", {"utc_offset_s": 0})
        [card] = [card for card in state["shelf"] if card["id"] == state["message"]["item"]]
        about = {"less item": card["id"], "less": card["topic"], "refuse channel": "in-app"}
        assert shop.call("wish", {"wish": wish, "about": about[wish]})["message"] is None


def run_app(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the app with arguments with which it can not start."""
    return subprocess.run(
        [sys.executable, str(APP), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S * 2,
        check=False,
    )


def test_app_that_can_not_start_says_so_in_one_line(one_shop: Shop, tmp_path: Path) -> None:
    """One line on stderr, exit code 1, no traceback."""
    taken = one_shop.origin.rpartition(":")[2]
    (tmp_path / "file").write_text("", encoding="utf-8")
    for arguments in (
        ["--port", taken],
        ["--port", "99999"],
        ["--store", str(tmp_path / "file" / "below")],
    ):
        done = run_app(*arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert re.fullmatch(r"cannot start: .+\n", done.stderr), done.stderr
