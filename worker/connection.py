"""A Redis client that answers within seconds, whether Redis is there or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from moda_core.errors import InvalidInput, Unavailable

__all__ = ["CONNECT_TIMEOUT_S", "SOCKET_TIMEOUT_S", "answering", "connect", "shown_address"]

CONNECT_TIMEOUT_S: Final = 1.0
SOCKET_TIMEOUT_S: Final = 3.0


def connect(url: str) -> Redis:
    """A client of the Redis at `url`; connects when first used, and again whenever it must.

    One retry at once, because a pooled connection may have died with an earlier Redis.

    Raises:
        InvalidInput: for a URL that is none of Redis.
    """
    try:
        return Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError as error:
        raise InvalidInput("MODA_REDIS_URL", url, str(error), "give one such as redis://127.0.0.1:6379/0") from error


def shown_address(url: str) -> str:
    """Host and port of a URL, without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname or parts.path}:{parts.port or 6379}" if parts.hostname else parts.path


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Turn whatever keeps Redis from answering into `Unavailable`.

    Raises:
        Unavailable: Redis is gone, loading, full, read-only, or refuses us.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"Redis at {address} does not answer ({error})", "jobs come back by themselves when it does"
        ) from error
