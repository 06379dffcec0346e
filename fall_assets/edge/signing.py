"""Who made this: Ed25519 signatures, and the key files that they need.

What belongs here: keys as PEM files, signing bytes, saying whether one of the trusted keys signed
them. What does not: what the bytes mean (`package.py`, `assignment.py`).

The private key stays with the platform; a box holds public keys only. A box may trust several: a
new key is added to all boxes before the old one is taken away (rotation).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fall_assets.errors import PermanentFailureError

SIGNATURE_SIZE: Final = 64
_MAX_KEY_BYTES: Final = 64 * 1024
_PUBLIC_BEGIN: Final = b"-----BEGIN PUBLIC KEY-----"
_PUBLIC_END: Final = b"-----END PUBLIC KEY-----"


class KeyFileError(PermanentFailureError):
    """A key file is missing, is no Ed25519 key, or others may read it."""


class SignatureError(PermanentFailureError):
    """None of the trusted keys signed this."""


def generate_key(private_path: Path, public_path: Path) -> None:
    """Make a key pair: two PEM files, the private one for its owner only (0600).

    Raises:
        KeyFileError: one of the files is there already (a key is never overwritten), or cannot be
            written.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if public_path.exists():
        raise KeyFileError(f"{public_path} is there already; a key is never overwritten")
    _write_new(private_path, private, 0o600)
    _write_new(public_path, public_pem(key).encode("ascii"), 0o644)


def public_pem(key: Ed25519PrivateKey) -> str:
    """The public key that belongs to a private one, as PEM text."""
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public.decode("ascii")


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file.

    Raises:
        KeyFileError: no such file, no Ed25519 key, or anybody but its owner may read it.
    """
    try:
        with path.open("rb") as file:
            # The open file is asked, not the path: nobody can exchange it in between.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(
            f"cannot read the private key {path}: {error.strerror or error}"
        ) from error
    if mode & 0o077:
        raise KeyFileError(
            f"others may read the private key {path} (mode {mode:04o}); chmod 600 it, and if it "
            "has been readable for long, make a new one"
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is a {type(key).__name__}, wanted an Ed25519 key")
    return key


def load_public_keys(paths: Iterable[Path]) -> tuple[Ed25519PublicKey, ...]:
    """The public keys that are trusted: of every file all keys in it, at least one.

    Raises:
        KeyFileError: a file is missing, holds no key or one that is not Ed25519; or none was given.
    """
    keys: list[Ed25519PublicKey] = []
    for path in paths:
        try:
            content = path.read_bytes()[:_MAX_KEY_BYTES]
        except OSError as error:
            raise KeyFileError(
                f"cannot read the public key {path}: {error.strerror or error}"
            ) from error
        blocks = content.split(_PUBLIC_BEGIN)[1:]
        if not blocks:
            raise KeyFileError(f"{path} holds no public key in PEM")
        for block in blocks:
            keys.append(_public_key(path, _PUBLIC_BEGIN + block.split(_PUBLIC_END)[0]))
    if not keys:
        raise KeyFileError("no public key was given; without one nothing can be trusted")
    return tuple(keys)


def sign(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature over the bytes as they are: 64 bytes."""
    return key.sign(content)


def verify(content: bytes, signature: bytes, trusted: Sequence[Ed25519PublicKey]) -> None:
    """Return if one of the trusted keys signed exactly these bytes.

    Raises:
        SignatureError: none did.
    """
    if len(signature) != SIGNATURE_SIZE:
        raise SignatureError(
            f"a signature of {len(signature)} bytes, wanted {SIGNATURE_SIZE}: cut off or no "
            "signature at all"
        )
    for key in trusted:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return
    raise SignatureError(
        f"signed by none of the {len(trusted)} trusted keys, or changed after it was signed"
    )


def _public_key(path: Path, block: bytes) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(block + _PUBLIC_END + b"\n")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds something that is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} holds a {type(key).__name__}, wanted Ed25519 keys")
    return key


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
    except FileExistsError as error:
        raise KeyFileError(f"{path} is there already; a key is never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror or error}") from error
