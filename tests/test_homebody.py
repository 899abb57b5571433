"""The front door: quick, polite, and it never imports what was not asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import homebody

ROOT = Path(homebody.__file__).parent
HEAVY = {"numpy", "tensorflow", "flwr", "torch", "fastapi", "matplotlib", "simulations"}


def run(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command, or some Python, in a process of its own."""
    program = ["-c", code] if code else ["-m", "homebody", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, *program],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=ROOT,
    )


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_main_help_lists_every_command(words: list[str]) -> None:
    """All three ways to ask."""
    done = run(*words)
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(f"  {name} " in done.stdout for name in homebody.COMMANDS)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["demo", "--help"], ["privacy", "--help"]]
)
def test_main_help_imports_nothing_heavy(words: list[str]) -> None:
    """`--help` answers at once because nothing is loaded for it."""
    code = (
        f"import homebody, json, sys; homebody.main({words!r}); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = run(code=code)
    assert done.returncode == 0
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    allowed = {"simulations"} if words[0] == "demo" else set()
    assert not loaded & (HEAVY - allowed)


def test_main_version_is_one_line() -> None:
    """The name and the number."""
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("homebody ")
    assert done.stdout.count("\n") == 1


def test_main_without_a_command_shows_the_help_and_fails() -> None:
    """A script that forgot the command must notice."""
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "commands:" in done.stderr


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("simulat", "there is no command 'simulat' (did you mean 'simulate'?)"),
        ("xyz", "there is no command 'xyz'; see homebody --help"),
        ("--vresion", "there is no option '--vresion'"),
        ("line\nbreak", "there is no command 'line\\nbreak'"),
    ],
)
def test_main_unknown_word_is_one_line_with_a_near_match(
    word: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing mistake is answered, not explained at length."""
    assert homebody.main([word]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith("homebody: error: ")
    assert part in caught.err
    assert caught.err.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_main_command_of_parts_lists_them(words: list[str]) -> None:
    """Parts live in several folders; one help names all of them."""
    done = run("privacy", *words)
    assert (done.returncode, done.stderr) == (0, "")
    parts = homebody.COMMANDS["privacy"].parts
    assert set(parts) >= {"plan", "ledger", "spend", "verify", "export"}
    assert all(f"  {name} " in done.stdout for name in parts)


def test_main_command_of_parts_alone_shows_its_help_and_fails() -> None:
    """As the command without a word does."""
    done = run("privacy")
    assert (done.returncode, done.stdout) == (2, "")
    assert "plan" in done.stderr


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("plam", "privacy has no command 'plam' (did you mean 'plan'?); see homebody privacy"),
        ("xyz", "privacy has no command 'xyz'; see homebody privacy --help"),
        ("--plan", "privacy has no option '--plan'"),
    ],
)
def test_main_unknown_part_is_one_line_with_a_near_match(
    word: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answered as a command is."""
    assert homebody.main(["privacy", word]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert part in caught.err
    assert caught.err.count("\n") == 1


@pytest.mark.parametrize("part", list(homebody.COMMANDS["privacy"].parts))
def test_main_part_reaches_its_module(part: str) -> None:
    """Every one of them is there and answers."""
    done = run("privacy", part, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: homebody privacy {part}" in done.stdout


def test_main_part_that_lacks_its_extra_is_named_in_full() -> None:
    """So that the cure fits what was typed."""
    code = (
        "import homebody, sys, types\n"
        "module = types.ModuleType('privacy.cli')\n"
        "def main(argv):\n    raise ModuleNotFoundError('x', name='scipy.special')\n"
        "module.main = main\n"
        "sys.modules['privacy.cli'] = module\n"
        "sys.exit(homebody.main(['privacy', 'plan']))\n"
    )
    done = run(code=code)
    assert done.returncode == 2
    assert done.stderr == (
        "homebody: error: privacy plan needs scipy, which is not installed: "
        "pip install 'homebody[privacy]'\n"
    )


def test_main_mistake_in_a_command_has_its_exit_code() -> None:
    """The whole way through the door: one line, code 2."""
    done = run("demo", "--epsilon", "0")
    assert done.returncode == 2
    assert done.stderr == "homebody: error: epsilon must be a finite number > 0, got 0\n"


def with_module(body: str) -> str:
    """Python that makes ``simulations.cli`` a module with this ``main``, then runs the demo."""
    return (
        "import homebody, sys, types\n"
        "module = types.ModuleType('simulations.cli')\n"
        f"def main(argv):\n    {body}\n"
        "module.main = main\n"
        "sys.modules['simulations.cli'] = module\n"
        "sys.exit(homebody.main(['demo', 'word']))\n"
    )


def test_main_command_gets_its_name_and_words_and_gives_its_code() -> None:
    """The first word is the command's name."""
    done = run(code=with_module("print(argv); return 7"))
    assert (done.returncode, done.stdout) == (7, "['demo', 'word']\n")


def test_main_missing_extra_says_what_to_install() -> None:
    """One line that can be pasted."""
    body = "raise ModuleNotFoundError('x', name='tensorflow.python')"
    done = run(code=with_module(body))
    assert done.returncode == 2
    assert done.stderr == (
        "homebody: error: demo needs tensorflow, which is not installed: "
        "pip install 'homebody[simulation]'\n"
    )


def test_main_missing_folder_says_so() -> None:
    """An installation without the command's folder is told from a mistake of ours."""
    done = run(code=with_module("raise ModuleNotFoundError('x', name='simulations.cli')"))
    assert done.returncode == 2
    assert "demo is not part of this installation" in done.stderr


@pytest.mark.parametrize("name", ["somebodys_module", "simulations.forgotten"])
def test_main_other_missing_module_is_not_hidden(name: str) -> None:
    """Only what an extra brings is explained; the rest is a bug and keeps its traceback."""
    done = run(code=with_module(f"raise ModuleNotFoundError('x', name={name!r})"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_main_interrupted_leaves_quietly() -> None:
    """Ctrl-C is no error of ours."""
    done = run(code=with_module("raise KeyboardInterrupt"))
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_main_reader_gone_leaves_quietly() -> None:
    """``homebody … | head`` is no error at all."""
    body = "[print('x' * 1000, flush=True) for _ in range(1000)]; return 0"
    writer = subprocess.Popen(
        [sys.executable, "-c", with_module(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.wait(timeout=60) == 141
    assert writer.stderr.read() == b""
    writer.stderr.close()
