from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fall_assets.edge.signing import (
    KeyFileError,
    SignatureError,
    generate_key,
    load_private_key,
    load_public_keys,
    public_pem,
    sign,
    verify,
)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    generate_key(private, public)
    return private, public


def test_what_is_signed_verifies(keys: tuple[Path, Path]) -> None:
    private, public = keys
    verify(b"content", sign(b"content", load_private_key(private)), load_public_keys([public]))


def test_the_private_key_is_its_owners_only(keys: tuple[Path, Path]) -> None:
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_may_read_is_refused(keys: tuple[Path, Path], mode: int) -> None:
    keys[0].chmod(mode)
    with pytest.raises(KeyFileError, match="others may read"):
        load_private_key(keys[0])


def test_a_key_is_never_overwritten(keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    before = private.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_key(private, tmp_path / "other.pem")
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_key(tmp_path / "other-private.pem", public)
    assert private.read_bytes() == before
    assert not (tmp_path / "other-private.pem").exists()


@pytest.mark.parametrize(
    ("content", "signature"),
    [
        (b"changed", None),
        (b"content", b""),
        (b"content", b"x" * 63),
        (b"content", b"x" * 64),
        (b"content", b"x" * 65),
    ],
)
def test_what_was_not_signed_is_refused(
    keys: tuple[Path, Path], content: bytes, signature: bytes | None
) -> None:
    good = sign(b"content", load_private_key(keys[0]))
    with pytest.raises(SignatureError):
        verify(content, good if signature is None else signature, load_public_keys([keys[1]]))


def test_another_key_is_refused_until_it_is_trusted_too(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    generate_key(tmp_path / "new.pem", tmp_path / "new.pub.pem")
    signature = sign(b"content", load_private_key(tmp_path / "new.pem"))
    with pytest.raises(SignatureError):
        verify(b"content", signature, load_public_keys([keys[1]]))
    verify(b"content", signature, load_public_keys([keys[1], tmp_path / "new.pub.pem"]))


def test_one_file_may_hold_several_keys(keys: tuple[Path, Path], tmp_path: Path) -> None:
    generate_key(tmp_path / "new.pem", tmp_path / "new.pub.pem")
    both = tmp_path / "both.pem"
    both.write_text("# of 2026\n" + keys[1].read_text() + public_pem(load_private_key(keys[0])))
    assert len(load_public_keys([both, tmp_path / "new.pub.pem"])) == 3


def test_no_key_trusts_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for paths in ([], [empty], [tmp_path / "missing.pem"]):
        with pytest.raises(KeyFileError):
            load_public_keys(paths)


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    key = generate_private_key(SECP256R1())
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_private_key(private)
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_public_keys([public])
