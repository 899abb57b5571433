"""The one TOML reader: the lines that it names are the parser's own, whatever the text is."""

import contextlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.toml_file import FileMistakeError, Place, TomlFile
from client_sdk.experience.toml_table import TomlTable

EXAMPLES = Path(__file__).parents[3] / "examples"
PIECES = (
    "[t]", "[t.u]", '["t" . \'v w\']', "[[l]]", "[[l]] # [x] = 1", "[l.in]", "[[l.deep]]",
    "a = 1", "b.c = 2", '"d = [" = 3', "e = [", " 1, # ]", "]", 'f = """', "g = 1", '"""',
    "h = '''", "'''", "i = { j = 1, k = [2] }", 'm = "\\" # = ["', "# n = 1", "", "o = '# ['",
    'p = """"quoted""""', "  q  =  2026-01-01T00:00:00Z",
)  # fmt: skip


def places(value: Any, at: Place = ()) -> list[Place]:
    """Every place of a value."""
    found = [at] if at else []
    if isinstance(value, dict):
        rows: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        rows = list(enumerate(value))
    else:
        rows = []
    return found + [place for key, each in rows for place in places(each, (*at, key))]


def line_by_the_parser(text: str, place: Place) -> int:
    """Where the statement stands that brings a place: by parsing ever longer beginnings."""
    lines, begin = text.split("\n"), 0
    for end in range(1, len(lines) + 1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if place in places(tomllib.loads("\n".join(lines[:end]))):
                rows = [row for row in range(begin, end) if lines[row].strip()]
                return next(row + 1 for row in rows if not lines[row].lstrip().startswith("#"))
            begin = end
    raise AssertionError(place)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("\n".join))
def test_lines_any_text_agree_with_the_parser(text: str) -> None:
    """An independent, slow way finds the same line for every place of every text that is TOML."""
    try:
        file = TomlFile.read(text, name="f")
    except FileMistakeError:
        return
    for place in places(file.tables):
        assert file.line(place) == line_by_the_parser(text, place), place


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: path.name)
def test_lines_shipped_files_agree_with_the_parser(path: Path) -> None:
    """Every second header and key of the examples, some of which have lists in lists."""
    text = path.read_text(encoding="utf-8")
    file = TomlFile.read(path, name="")
    for place in places(file.tables)[::17]:
        assert file.line(place) == line_by_the_parser(text, place), place


def test_line_of_what_is_not_there_is_that_of_what_it_should_stand_in() -> None:
    """What looks like a key in a text or a comment is none; the top has line 1."""
    text = '# b = 1\na = """\nb = 2\n"""\n[t]\n\n# b\nb = [\n 1,\n]\n'
    file = TomlFile.read(text, name="f")
    assert [file.line(place) for place in (("t", "b"), ("t",), ("a",), ("t", "z"), ("z",))] == [
        8, 5, 2, 5, 1,
    ]  # fmt: skip


@given(st.text(max_size=60) | st.text("[]=\"'.#\nab1 {},\\", max_size=60))
def test_read_any_text_gives_a_file_or_one_error(text: str) -> None:
    """No other error leaves the reader."""
    with contextlib.suppress(FileMistakeError):
        TomlFile.read(text, name="f")


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b"\xff", 1, "save it as UTF-8"),
        (b"a = 1\nb =\n", 2, "correct this line"),
        (b"a = " + b"[" * 5_000, 1, "make them smaller"),
        (b"a = " + b"9" * 5_000, 1, "make them smaller"),
        (b"#\n" * 9, 1, "at most 8 lines and 20000 characters"),
        (b"#" * 20_001, 1, "make it shorter"),
    ],
)
def test_read_what_is_no_file_of_ours_is_one_error(
    tmp_path: Path, data: bytes, line: int, said: str
) -> None:
    """File, line and remedy; one line."""
    path = tmp_path / "app.toml"
    path.write_bytes(data)
    with pytest.raises(FileMistakeError) as caught:
        TomlFile.read(path, name="", max_lines=8, max_chars=20_000)
    assert str(caught.value).startswith(f"app.toml, line {line}: expected ")
    assert said in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("app.toml", line)


@pytest.mark.parametrize(
    ("entry", "ask", "said"),
    [
        ("a = 1", lambda t: t.text("a"), "expected text; got a number"),
        ("a = 'x'", lambda t: t.flag("a", default=True), "expected true or false; got text"),
        ("a = 3.0", lambda t: t.whole("a", least=0, most=3), "a whole number from 0 to 3"),
        ("a = inf", lambda t: t.number("a"), "expected a finite number"),
        ("a = 2", lambda t: t.number("a", least=0, most=1), "a number from 0 to 1"),
        ("a = ['x', 'X']", lambda t: t.names("a"), "a list of different texts"),
        ("a = ['X Y']", lambda t: t.codes("a"), "1 to 64 of a-z"),
        ("a = '24:00'", lambda t: t.minute("a"), 'a time such as "21:30"'),
        ("a = 2026-01-01", lambda t: t.time_s("a"), "a time with its zone"),
        ("a = '2 weeks'", lambda t: t.duration_s("a"), "a whole number of seconds"),
        ("a = [1]", lambda t: t.table("a"), "expected a table; got a list"),
        ("a = [1]", lambda t: t.tables("a"), "expected a list of tables"),
        ("b = 1", lambda t: t.need("a", "text", '"x"'), 'got none: add a = "x"'),
    ],
)
def test_table_value_of_another_type_is_one_error_with_its_line(
    entry: str, ask: Any, said: str
) -> None:
    """Whatever is asked for, the error has the place and the line; a right value comes back."""
    table = TomlTable.of(TomlFile.read(f"\n[t]\n{entry}\n", name="f")).table("t")
    with pytest.raises(FileMistakeError) as caught:
        ask(table)
    line = 3 if entry.startswith("a") else 2
    assert str(caught.value).startswith(f"f, line {line}: t.a: expected ")
    assert said in str(caught.value)
