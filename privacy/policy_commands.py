"""``homebody privacy sign|check``: who answers for a policy, and whether it is still what they saw.

Exit codes: 0 signed, or valid; 1 not valid: unsigned, altered, expired or of another key; 2 the
caller's mistake or something missing; one line on stderr.

Test: tests/privacy/test_policy_commands.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from privacy.errors import PolicyFormatError, PolicyUntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DONE: Final = 0
NOT_VALID: Final = 1
USAGE: Final = 2
_MAX_KEY_BYTES: Final = 10_000

_EXAMPLES: Final = """\
examples:
  openssl genpkey -algorithm ed25519 -out officer.pem     a key; keep it where no server is
  openssl pkey -in officer.pem -pubout -out officer.pub   its public half; give it to the aggregator

  homebody privacy sign policy.toml --key officer.pem --by "A. Officer"
                        reads and checks the policy, then puts name, day and signature under it
  homebody privacy sign policy.toml --key officer.pem --by "A. Officer" --renew --valid-days 90
                        the same policy again, for 90 days from today
  homebody privacy check policy.toml --key officer.pub
                        0: signed by that key, unaltered, and not expired; 1: not

A public key is a PEM file, or the 64 hexadecimal digits that sign prints. A campaign takes a policy
only where check would answer 0 (docs/privacy-officer.md).
"""


def main(argv: Sequence[str], *, now_s: Callable[[], float] = time.time) -> int:
    """Run one command.

    Args:
        argv: ``["sign", "policy.toml", …]``, as after ``homebody privacy``.
        now_s: The clock, seconds since 1970 (UTC); it says which day is signed, or checked.

    Returns:
        The exit code.
    """
    try:
        options = _parser().parse_args(list(argv))
        run: Callable[[argparse.Namespace, float], int] = options.run
        return run(options, now_s())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except PolicyUntrustedError as error:
        return _complain(str(error), NOT_VALID)
    except (PolicyFormatError, ValueError) as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror or error}{where}", USAGE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message}; see {self.prog} --help", USAGE))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="homebody privacy", description="Sign or check a privacy policy.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    sign = _command(commands, "sign", _sign, "put your name and signature under a policy")
    sign.add_argument(
        "--key", type=Path, required=True, metavar="KEY.pem", help="your private Ed25519 key"
    )
    sign.add_argument("--by", required=True, metavar="NAME", help="who approves")
    sign.add_argument(
        "--valid-days", type=int, default=365, metavar="N", help="from today (%(default)s)"
    )
    sign.add_argument("--renew", action="store_true", help="replace the signature that is there")
    check = _command(commands, "check", _check, "say whether a policy is signed, whole and valid")
    check.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="PUBLIC",
        help="a public key that may approve; once for each",
    )
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace, float], int], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("policy", type=Path, metavar="POLICY.toml", help="what plan --out wrote")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)
    return parser


@dataclass(frozen=True, kw_only=True)
class _OfficerKey:
    """A private key as the signer of a policy."""

    key: Ed25519PrivateKey

    @property
    def public_key_hex(self) -> str:
        return self.key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


def _sign(options: argparse.Namespace, now_s: float) -> int:
    from privacy.policy import read_policy
    from privacy.signed_policy import sign_policy

    policy = read_policy(options.policy.read_bytes())
    if policy.signature is not None and not options.renew:
        raise ValueError(
            f"{options.policy} is signed already, by {_shown(policy.sign_off.approved_by)}; "
            "--renew replaces the signature"
        )
    signed = sign_policy(
        policy,
        signer=_OfficerKey(key=_private_key(options.key)),
        by=options.by,
        now_s=now_s,
        valid_days=options.valid_days,
    )
    _write_whole(options.policy, signed.to_toml())
    return _tell(options, signed, done="signed")


def _check(options: argparse.Namespace, now_s: float) -> int:
    from privacy.signed_policy import load_policy

    data = options.policy.read_bytes()
    keys = [_public_key(word) for word in options.key]
    try:
        verified = load_policy(data, trusted_keys=keys, now_s=now_s)
    except PolicyUntrustedError as error:
        if options.json:
            _say(json.dumps({"valid": False, "problem": str(error)}))
        raise
    return _tell(options, verified.policy, done="valid")


def _tell(options: argparse.Namespace, policy: Any, *, done: str) -> int:
    signature, sign_off = policy.signature, policy.sign_off
    if options.json:
        told = {
            "valid": True,
            "policy": str(options.policy),
            "digest": policy.digest,
            "population": policy.population,
            "epsilon": policy.epsilon,
            "delta": policy.delta,
            "by": sign_off.approved_by,
            "on": sign_off.approved_on,
            "valid_until": signature.valid_until,
            "key": signature.key,
        }
        _say(json.dumps(told, indent=2))
        return DONE
    rounds = "1 round" if policy.rounds == 1 else f"{policy.rounds:,} rounds"
    _say(
        f"{done}: {options.policy}",
        f"  what    {policy.task.value} by {policy.mechanism.value}, {rounds}, "
        f"report goal {policy.report_goal:,}",
        f"  whose   {_shown(policy.population)}, {policy.people:,} people",
        f"  price   epsilon {policy.epsilon:g} at delta {policy.delta:g}",
        f"  by      {_shown(sign_off.approved_by)}, {sign_off.approved_on}, "
        f"until {signature.valid_until}",
        f"  key     {signature.key}",
    )
    return DONE


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _small_file(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise ValueError(
            f"the key {path} has a passphrase: give one without "
            "(openssl pkey -in KEY.pem -out PLAIN.pem), and delete that afterwards"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is not a private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"the key {path} is not an Ed25519 key")  # noqa: TRY004 - a file's content
    return key


def _public_key(word: str) -> str:
    """Read a public key: hexadecimal digits, or a PEM file of one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if re.fullmatch(r"[0-9a-f]{64}", word):
        return word
    data = _small_file(Path(word))
    if b"PRIVATE KEY" in data:
        raise ValueError(f"{word} is a private key: check needs the public one only")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{word} is not a public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"the key {word} is not an Ed25519 key")  # noqa: TRY004 - a file's content
    return key.public_bytes_raw().hex()


def _small_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_KEY_BYTES + 1)
    if len(data) > _MAX_KEY_BYTES:
        raise ValueError(f"{path} is too long for a key")
    return data


def _write_whole(path: Path, text: str) -> None:
    """Put the new file in the old one's place: all of it, or nothing."""
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:200])


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _complain(problem: str, code: int) -> int:
    sys.stderr.write(f"homebody: error: {problem}\n")
    return code
