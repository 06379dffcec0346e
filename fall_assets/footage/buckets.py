"""Footage in S3-compatible buckets: listing, downloading and deleting objects.

What belongs here: talking to the object store, and its failures in our words. What does not: which
objects are footage (see `discovery.py`) and where copies are kept (see `store.py`).

The store is found by the environment variables that the lake's own library reads, too:
`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, and `AWS_ALLOW_HTTP=true` for an endpoint without TLS. No setting of ours
holds a credential.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets.errors import PassingFailureError, PermanentFailureError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

SCHEME = "s3://"

_CONNECT_S = 5.0
_READ_S = 30.0
_RETRIES = 3
_RETRY_S = 20.0
"""A tick waits no longer for a store that is away."""

_PAGE = 1000
"""Keys that one request lists, by S3's own limit."""

_CHUNK_BYTES = 1 << 20


class BucketError(PermanentFailureError):
    """A bucket cannot be used as it is configured."""


class BucketAwayError(PassingFailureError):
    """The object store does not answer, or answers that it is busy."""


@dataclass(frozen=True)
class BucketObject:
    """One object: its key, size, time of the last change (seconds since the epoch) and etag."""

    key: str
    bytes: int
    changed_s: float
    etag: str


def is_address(path: str) -> bool:
    """Whether a path names an object or bucket rather than a file."""
    return path.startswith(SCHEME)


def split(address: str) -> tuple[str, str]:
    """Bucket and key of 's3://bucket/key'; the key is '' where there is none.

    Raises BucketError where the address names no bucket.
    """
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not is_address(address) or not bucket:
        raise BucketError(f"{address!r} is no bucket's address; give one such as 's3://bucket/key'")
    return bucket, key


class Bucket:
    """One bucket.

    Every method raises BucketAwayError where the store does not answer after a few attempts and
    BucketError where it refuses.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def objects(self, prefix: str = "", after: str = "") -> Iterator[BucketObject]:
        """Objects below a prefix (whole path segments) with keys after `after`, sorted by key.

        Pages are asked for as they are needed.
        """
        with self._told(f"list {SCHEME}{self.name}/{prefix}"):
            pages = _store(self.name).list(prefix or None, offset=after or None, chunk_size=_PAGE)
            for page in pages:
                for meta in page:
                    yield _object(meta)

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below a prefix, sorted."""
        with self._told(f"list {SCHEME}{self.name}/{prefix}"):
            found = _store(self.name).list_with_delimiter(prefix or None)["common_prefixes"]
            return sorted(path.rsplit("/", 1)[-1] for path in found)

    def state(self, key: str) -> BucketObject | None:
        """What is known of one object without reading it; None where there is none."""
        with self._told(f"look at {SCHEME}{self.name}/{key}"):
            try:
                return _object(_store(self.name).head(key))
            except FileNotFoundError:
                return None

    def download(self, key: str, target: Path) -> None:
        """Write an object's content to a file. Raises FileNotFoundError where it is gone."""
        with self._told(f"read {SCHEME}{self.name}/{key}"), target.open("wb") as file:
            for chunk in _store(self.name).get(key).stream(min_chunk_size=_CHUNK_BYTES):
                file.write(chunk)

    def delete(self, key: str) -> bool:
        """Delete one object; False where it was gone already."""
        with self._told(f"delete {SCHEME}{self.name}/{key}"):
            if self.state(key) is None:
                return False
            _store(self.name).delete(key)
            return True

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say failures in our words."""
        from obstore import exceptions

        try:
            yield
        except (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
        ) as error:
            raise BucketError(
                f"cannot {what}: {_first_line(error)}; see that AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY are set and may read, and for retention delete, there"
            ) from error
        except exceptions.InvalidPathError as error:
            raise BucketError(
                f"cannot {what}: {_first_line(error)}; rename that object, or give the source a "
                "prefix without it"
            ) from error
        except (exceptions.BaseError, ValueError) as error:
            text = _first_line(error)
            if "NoSuchBucket" in str(error):
                raise BucketError(
                    f"cannot {what}: there is no such bucket; correct 'at' in data/site.toml or "
                    "AWS_ENDPOINT_URL"
                ) from error
            if "BadScheme" in str(error):
                raise BucketError(
                    f"cannot {what}: the endpoint is plain HTTP; set AWS_ALLOW_HTTP=true if that "
                    "is meant"
                ) from error
            if isinstance(error, ValueError):
                raise BucketError(
                    f"cannot {what}: {text}; correct the key or the prefix"
                ) from error
            raise BucketAwayError(
                f"cannot {what}: {text}; see whether the store at "
                f"{os.environ.get('AWS_ENDPOINT_URL', 'AWS')} runs and can be reached; what is "
                "there is taken in once it is back"
            ) from error


def _object(meta: ObjectMeta) -> BucketObject:
    changed_s = meta["last_modified"].timestamp()
    etag = (meta["e_tag"] or f"{meta['size']}-{changed_s}").strip('"')
    return BucketObject(meta["path"], meta["size"], changed_s, etag)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0].strip().rstrip(".")


def _store(bucket: str) -> S3Store:
    """The store of a bucket, as the environment says now."""
    return _open(bucket, tuple(sorted((k, v) for k, v in os.environ.items() if k[:4] == "AWS_")))


@lru_cache(maxsize=16)
def _open(bucket: str, environment: tuple[tuple[str, str], ...]) -> S3Store:
    from obstore.store import S3Store

    told = dict(environment)
    return S3Store(
        bucket,
        client_options={
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "read_timeout": timedelta(seconds=_READ_S),
            # A client's options come before the environment, so this one is handed on.
            "allow_http": told.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )
