"""The general loader: columns in, events and a catalogue out, or one clear `DataError`."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulations.data.interactions import EVENT_KINDS, DataError, LoadedData
from simulations.data.loader import load_events

HEADER = "user,item,timestamp\n"


def write(folder: Path, text: str, name: str = "events.csv") -> Path:
    """Write a file and give its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, items: str | None = None) -> LoadedData:
    """Load events, and items where they are given, from their text."""
    items_path = None if items is None else write(folder, items, "items.csv")
    return load_events(write(folder, text), items_path)


def refusal(folder: Path, text: str, items: str | None = None) -> str:
    """Give the message with which a file is refused."""
    with pytest.raises(DataError) as caught:
        load(folder, text, items)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_load_events_minimal_file_gives_purchases_sorted_by_person_and_time(
    tmp_path: Path,
) -> None:
    """Three columns are enough; each is a purchase of one piece at an unknown price."""
    loaded = load(tmp_path, HEADER + "ann,tea,20\nbob,tea,5\nann,cup,10\n")
    events = loaded.interactions
    assert [item.item_id for item in loaded.catalogue.items] == ["cup", "tea"]
    assert events.users.tolist() == [0, 0, 1]
    assert events.items.tolist() == [0, 1, 1]
    assert events.times_s.tolist() == [10.0, 20.0, 5.0]
    assert events.quantities.tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(events.prices).all()
    assert {EVENT_KINDS[kind] for kind in events.kinds} == {"purchase"}
    assert loaded.quality.out_of_order == 1


def test_load_events_all_columns_in_any_case_and_order_are_understood(tmp_path: Path) -> None:
    """Headers in capitals, aliases, a column that means nothing, fields with spaces and quotes."""
    text = (
        "Session_ID,PRICE,quantity,Event,TIME,Item_id,User_id,colour,category\n"
        's1,2.50,3,Cart,2020-01-01T00:00Z," tea, green ",ann,red,drinks\n'
    )
    loaded = load(tmp_path, text)
    item = loaded.catalogue.items[0]
    assert (item.item_id, item.category, item.price) == ("tea, green", "drinks", 2.5)
    assert loaded.interactions.quantities.tolist() == [3.0]
    assert EVENT_KINDS[loaded.interactions.kinds[0]] == "cart"
    assert loaded.quality.ignored_columns == ("colour",)


def test_load_events_byte_order_mark_crlf_and_blank_lines_are_fine(tmp_path: Path) -> None:
    """What spreadsheets write is read."""
    text = "\ufeff\r\nuser,item,timestamp\r\n\r\na,b,1\r\n\r\n"
    assert load(tmp_path, text).quality.kept == 1


def test_load_events_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    """The name does not matter."""
    path = tmp_path / "events.csv"
    path.write_bytes(gzip.compress(f"{HEADER}a,b,1\n".encode()))
    assert load_events(path).quality.kept == 1


def test_load_events_exact_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    """The same row twice is one event; another time, quantity or price makes another event."""
    rows = "a,x,1,1,\na,x,1,1,\na,x,1,2,\na,x,2,1,\na,x,1,1,3\na,x,1,1,\n"
    text = "user,item,timestamp,quantity,price\n" + rows
    quality = load(tmp_path, text).quality
    assert (quality.rows, quality.kept, quality.duplicates) == (6, 4, 2)


def test_load_events_rows_of_one_session_are_one_occasion(tmp_path: Path) -> None:
    """A session counts as a whole, at any time, and for each person alone; others by moment."""
    text = "user,item,timestamp,session\n" + ("a,x,1,s\na,y,9,s\na,z,5,\na,w,5,\na,v,6,\nb,x,1,s\n")
    occasions = load(tmp_path, text).interactions.occasions
    # Sorted by time: x(1), z(5), w(5), v(6), y(9) of a; x of b.
    assert occasions.tolist() == [0, 1, 1, 2, 0, 3]


def test_load_events_items_file_gives_order_names_and_prices(tmp_path: Path) -> None:
    """Its order stands; items that only the events know follow, and are counted."""
    items = "item,name,category,price\nz,Zebra,animals,1.5\na,,,\nunused,U,,0\n"
    loaded = load(tmp_path, HEADER + "p,b,1\np,z,2\n", items)
    assert [item.item_id for item in loaded.catalogue.items] == ["z", "a", "unused", "b"]
    assert loaded.catalogue.items[0].name == "Zebra"
    assert loaded.catalogue.items[1].price is None
    assert loaded.interactions.items.tolist() == [3, 0]
    assert loaded.quality.without_details == 1


def test_load_events_search_without_item_is_counted_not_kept(tmp_path: Path) -> None:
    """Such an event concerns no item; a purchase without one is a mistake."""
    text = "user,item,timestamp,event\na,,1,search\na,x,2,search\na,x,3,purchase\n"
    quality = load(tmp_path, text).quality
    assert (quality.kept, quality.without_item) == (2, 1)
    assert "line 2: item: expected" in refusal(tmp_path, text.replace("search", "purchase"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["events.csv: the file is empty"]),
        ("\n\n", ["the file is empty"]),
        (HEADER, ["there is a header but no data row"]),
        ("user,timestamp\na,1\n", ["line 1", "'item' is missing", "user,timestamp"]),
        ("user;item;timestamp\na;b;1\n", ["line 1", "is missing", "user;item;timestamp"]),
        ("user,item,item_id,timestamp\n", ["line 1", "'item' is there twice"]),
        (HEADER + "a,b,1\na,b,yesterday\n", ["line 3", "timestamp", "'yesterday'", "ISO 8601"]),
        (HEADER + "a,b\n", ["line 2", "expected 3 fields", "got 2"]),
        (HEADER + "a,b,1,2\n", ["line 2", "got 4"]),
        (HEADER + ",b,1\n", ["line 2", "user", "got nothing"]),
        (HEADER + "a,,1\n", ["line 2", "item", "got nothing"]),
        (HEADER + "a,b,\n", ["line 2", "timestamp", "got ''"]),
        (HEADER + 'a,b,"1\n', ["closed quotes"]),
        ("user,item,timestamp,quantity\na,b,1,-2\n", ["line 2", "quantity", ">= 0", "'-2'"]),
        ("user,item,timestamp,quantity\na,b,1,nan\n", ["line 2", "quantity", "finite"]),
        ("user,item,timestamp,price\na,b,1,inf\n", ["line 2", "price", "finite"]),
        ("user,item,timestamp,price\na,b,1,-0.01\n", ["line 2", "price", ">= 0"]),
        ("user,item,timestamp,event\na,b,1,buy\n", ["line 2", "event", "one of", "'buy'"]),
        ("user,item,timestamp,event\na,,1,screen\n", ["no row concerns an item"]),
    ],
)
def test_load_events_bad_file_names_file_line_field_and_expectation(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    """One line that a person can act on."""
    message = refusal(tmp_path, text)
    assert message.startswith("events.csv")
    for part in parts:
        assert part in message


def test_load_events_error_never_names_the_person(tmp_path: Path) -> None:
    """The row's person is not needed to mend the row."""
    assert "ann@example.org" not in refusal(tmp_path, HEADER + "ann@example.org,b,never\n")


def test_load_events_quoted_line_break_keeps_line_numbers_right(tmp_path: Path) -> None:
    """The number is that of the file's line, not of the row."""
    text = 'user,item,timestamp,note\na,b,1,"two\nlines"\na,b,bad,\n'
    assert "events.csv, line 4: timestamp" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("items", "part"),
    [
        ("item\n", "no item"),
        ("name\nx\n", "'item' is missing"),
        ("item,price\nx,-1\n", "line 2: price"),
        ("item\nx\ny\nx\n", "line 4: item: 'x' is listed twice"),
    ],
)
def test_load_events_bad_items_file_is_refused_by_its_name(
    tmp_path: Path, items: str, part: str
) -> None:
    """The message says which of the two files is meant."""
    message = refusal(tmp_path, HEADER + "a,x,1\n", items)
    assert message.startswith("items.csv")
    assert part in message


@pytest.mark.parametrize(
    "data",
    [
        "user,item,timestamp\nä,b,1\n".encode("latin-1"),
        "user,item,timestamp\na,b,1\n".encode("utf-16"),
        gzip.compress(b"user,item,timestamp\n" * 100)[:-12],
        gzip.compress(b"")[:10] + b"\xff" * 50,
        b"\x1f\x8b" + bytes(50),
        bytes(range(256)) * 20,
        b"\x89PNG\r\n\x1a\n\0\0",
    ],
)
def test_load_events_binary_or_damaged_file_is_one_error(tmp_path: Path, data: bytes) -> None:
    """Other encodings, cut gzip, pictures."""
    path = tmp_path / "events.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"events\.csv"):
        load_events(path)


def test_load_events_missing_file_or_folder_is_one_error(tmp_path: Path) -> None:
    """What the operating system says is told in one line, without the folder's path."""
    with pytest.raises(DataError, match=r"^none\.csv: cannot be read \(No such file"):
        load_events(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        load_events(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400), header=st.booleans())
def test_load_events_any_bytes_give_data_or_data_error(
    tmp_path: Path, body: bytes, header: bool
) -> None:
    """No input ends in another exception or in columns that break their promises."""
    path = tmp_path / "events.csv"
    path.write_bytes((HEADER.encode() if header else b"") + body)
    try:
        loaded = load_events(path)
    except DataError:
        return
    assert loaded.quality.kept == len(loaded.interactions) > 0


FIELD = st.sampled_from(["a", "b", "", "1", "-1", "2020-01-01", "nan", "purchase", "search", "é"])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(FIELD, min_size=8, max_size=8), max_size=6))
def test_load_events_any_rows_keep_the_counts_consistent(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    """Every row of a file that loads is kept, a duplicate, or without an item."""
    text = "user,item,timestamp,event,quantity,price,category,session\n"
    path = write(tmp_path, text + "".join(",".join(row) + "\n" for row in rows))
    try:
        quality = load_events(path).quality
    except DataError:
        return
    assert quality.rows == len(rows) == quality.kept + quality.duplicates + quality.without_item


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_load_events_order_of_the_file_does_not_matter(tmp_path: Path, data: st.DataObject) -> None:
    """Shuffled rows give the same items at the same times to everyone."""
    rows = [f"u{i % 3},i{i % 4},{i}\n" for i in range(9)]
    shuffled = data.draw(st.permutations(rows))
    straight = load(tmp_path, HEADER + "".join(rows)).interactions
    mixed = load(tmp_path, HEADER + "".join(shuffled)).interactions
    for person in range(3):
        name = straight.of_person(person)
        same = [p for p in range(3) if mixed.of_person(p).times_s.tolist() == name.times_s.tolist()]
        assert len(same) == 1
        assert mixed.of_person(same[0]).items.tolist() == name.items.tolist()


def test_load_events_hundred_thousand_rows_load_fast(tmp_path: Path) -> None:
    """A laptop's file is a matter of a second; the bound here is loose for slow machines."""
    rows = (f"u{i % 800},i{i % 1600},{i},{i // 20},2,1.5\n" for i in range(110_000))
    path = write(tmp_path, "user,item,timestamp,session,quantity,price\n" + "".join(rows))
    started = time.perf_counter()
    assert load_events(path).quality.kept == 110_000
    assert time.perf_counter() - started < 8.0


DESCRIBED = "item,name,Brand,stock,tags,Attribute:Colour,shelf,attribute:size\n"


def test_load_items_described_items_have_brand_stock_tags_and_attributes(tmp_path: Path) -> None:
    """Every known column is read; empty fields count as not there, other columns are ignored."""
    items = DESCRIBED + "tea,Green tea,Acme,12,organic; new ;organic,green,A3,\ncup,,,,,,,\n"
    described, empty = load(tmp_path, HEADER + "ann,tea,20\n", items).catalogue.items
    assert (described.brand, described.stock) == ("Acme", 12)
    assert described.tags == ("organic", "new")
    assert described.attributes == {"colour": "green"}
    assert (empty.brand, empty.stock, empty.tags, empty.attributes) == ("", None, (), {})


def test_load_items_attributes_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """An attribute's value comes from its own column, whatever stands around it."""
    items = "a,attribute:b,item,c,attribute:d,price\n1,2,tea,3,4,5\n"
    (item,) = load(tmp_path, HEADER + "ann,tea,20\n", items).catalogue.items
    assert item.attributes == {"b": "2", "d": "4"}
    assert item.price == 5.0


@pytest.mark.parametrize("stock", ["-1", "1.5", "many", "1e3", "1" * 13, "\u0663"])
def test_load_items_stock_that_is_no_number_of_pieces_is_refused(
    tmp_path: Path, stock: str
) -> None:
    """Pieces are whole and never below none."""
    message = refusal(tmp_path, HEADER + "ann,tea,20\n", f"item,stock\ntea,{stock}\n")
    assert "stock: expected a whole number of pieces" in message


@pytest.mark.parametrize("header", ["attribute:", "attribute:a,attribute: A"])
def test_load_items_attribute_without_a_name_or_there_twice_is_refused(
    tmp_path: Path, header: str
) -> None:
    """An attribute has a name, and one column."""
    row = "tea" + ",x" * len(header.split(","))
    message = refusal(tmp_path, HEADER + "ann,tea,20\n", f"item,{header}\n{row}\n")
    assert "expected each attribute once" in message
