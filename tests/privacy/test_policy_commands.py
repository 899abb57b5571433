"""``homebody privacy sign|check``: one signature, one verdict, nothing half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.policy import read_policy
from privacy.policy_commands import main
from tests.privacy.test_signed_policy import POLICY


def write_key(path: Path, key: Ed25519PrivateKey | X25519PrivateKey, passphrase: str = "") -> Path:
    """Write both halves as PEM, the way openssl does: ``path`` and ``path.pub``."""
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode())
            if passphrase
            else serialization.NoEncryption(),
        )
    )
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """An officer's key."""
    return write_key(tmp_path / "officer.pem", Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """An unsigned policy."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.to_toml(), encoding="utf-8")
    path.chmod(0o640)
    return path


def sign(plan: Path, key: Path, *more: str) -> int:
    """Sign as the officer does."""
    return main(["sign", str(plan), "--key", str(key), "--by", "A. Officer", *more])


def check(plan: Path, key: Path | str, *more: str) -> int:
    """Check with a public key."""
    return main(["check", str(plan), "--key", str(key), *more])


def test_sign_then_check_says_valid(
    plan: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the PEM file and with the digits that sign printed."""
    assert sign(plan, key, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["by"] == "A. Officer"
    assert told["digest"] == POLICY.digest
    assert check(plan, key.with_suffix(".pub")) == 0
    assert "valid: " in capsys.readouterr().out
    assert check(plan, told["key"], "--json") == 0
    assert json.loads(capsys.readouterr().out) == told
    assert plan.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in plan.parent.iterdir()} == {
        "policy.toml", "officer.pem", "officer.pub",
    }  # fmt: skip


def test_check_unsigned_policy_fails_with_one(
    plan: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verdict, not a mistake: exit code 1, one line, and JSON that says so."""
    assert check(plan, key.with_suffix(".pub"), "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["valid"] is False
    assert said.err.startswith("homebody: error: nobody signed the policy")
    assert said.err.count("\n") == 1


def test_check_altered_policy_fails_with_one(
    plan: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One day more than was signed."""
    assert sign(plan, key) == 0
    text = plan.read_text(encoding="utf-8")
    read = read_policy(text.encode())
    assert read.signature is not None
    plan.write_text(text.replace(read.signature.valid_until, "2099-01-01"), encoding="utf-8")
    assert check(plan, key.with_suffix(".pub")) == 1
    assert "changed after it was signed" in capsys.readouterr().err


def test_check_with_another_key_fails_with_one(
    plan: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody signed, but nobody whom the caller trusts; two keys trust both."""
    assert sign(plan, key) == 0
    assert check(plan, "0" * 64) == 1
    assert "isn't trusted" in capsys.readouterr().err
    assert check(plan, "0" * 64, "--key", str(key.with_suffix(".pub"))) == 0


def test_sign_signed_policy_needs_renew(
    plan: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's signature is replaced by accident."""
    assert sign(plan, key) == 0
    before = plan.read_bytes()
    assert sign(plan, key, "--valid-days", "7") == 2
    assert "--renew" in capsys.readouterr().err
    assert plan.read_bytes() == before
    assert sign(plan, key, "--valid-days", "7", "--renew") == 0
    assert plan.read_bytes() != before


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("passphrase", "has a passphrase"),
        ("other", "is not an Ed25519 key"),
        ("garbage", "is not a private key in PEM form"),
        ("public", "is not a private key in PEM form"),
        ("long", "is too long for a key"),
        ("missing", "No such file"),
    ],
)
def test_sign_with_what_is_no_key_leaves_the_policy_alone(
    plan: Path, key: Path, kind: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names what is wrong; the file is as it was."""
    other = key.with_name("other.pem")
    if kind == "passphrase":
        write_key(other, Ed25519PrivateKey.generate(), passphrase="secret")
    elif kind == "other":
        write_key(other, X25519PrivateKey.generate())
    elif kind == "garbage":
        other.write_bytes(b"\x00\xff")
    elif kind == "public":
        other.write_bytes(key.with_suffix(".pub").read_bytes())
    elif kind == "long":
        other.write_bytes(b"x" * 20_000)
    before = plan.read_bytes()
    assert sign(plan, other) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert plan.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("private", "is a private key"),
        ("other", "is not an Ed25519 key"),
        ("garbage", "is not a public key"),
        ("missing", "No such file"),
    ],
)
def test_check_with_what_is_no_public_key_is_a_mistake(
    plan: Path, key: Path, kind: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: nothing was found out about the policy."""
    other = key.with_name("other.pub")
    if kind == "private":
        other.write_bytes(key.read_bytes())
    elif kind == "other":
        write_key(key.with_name("other.pem"), X25519PrivateKey.generate())
    elif kind == "garbage":
        other.write_bytes(b"hello")
    assert sign(plan, key) == 0
    assert check(plan, other) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["sign"],
        ["sign", "{plan}", "--by", "A"],
        ["sign", "{plan}", "--key", "{key}"],
        ["sign", "{plan}", "--key", "{key}", "--by", ""],
        ["sign", "{plan}", "--key", "{key}", "--by", "A", "--valid-days", "0"],
        ["sign", "{plan}", "--key", "{key}", "--by", "A", "--valid-days", "soon"],
        ["sign", "{key}", "--key", "{key}", "--by", "A"],
        ["sign", "/nowhere/policy.toml", "--key", "{key}", "--by", "A"],
        ["check", "{plan}"],
        ["check", "{key}", "--key", "0"],
        ["forge", "{plan}"],
    ],
)
def test_nonsense_is_one_clear_line(
    plan: Path, key: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, exit code 2, nothing written."""
    before = plan.read_bytes()
    assert main([word.format(plan=plan, key=key) for word in words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("homebody: error: ")
    assert said.err.count("\n") == 1
    assert plan.read_bytes() == before


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Also how to make a key."""
    for command in ("sign", "check"):
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert "openssl genpkey" in said
        assert "homebody privacy check policy.toml" in said
