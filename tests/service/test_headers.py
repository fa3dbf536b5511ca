"""Headers as the server left them."""

from __future__ import annotations

from service.headers import header

SCOPE = {"headers": [(b"host", b"one"), (b"accept", b"caf\xe9"), (b"host", b"two")]}


def test_the_first_value_counts_and_every_byte_is_a_character():
    assert header(SCOPE, b"host") == "one"
    assert header(SCOPE, b"accept") == "caf\xe9"


def test_without_it_there_is_none():
    assert header(SCOPE, b"origin") is None
