import pytest

from moda_core.errors import InvalidInput
from moda_core.storage.references import (
    Reference,
    check_alias,
    check_digest,
    check_stored_name,
    is_digest,
    parse_reference,
)

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("digits", Reference(name="digits")),
        ("digits@latest", Reference(name="digits")),
        ("digits@3", Reference(name="digits", version=3)),
        ("digits@000003", Reference(name="digits", version=3)),
        ("digits@prod", Reference(name="digits", alias="prod")),
        (DIGEST, Reference(digest=DIGEST)),
        (f"sha256:{DIGEST}", Reference(digest=DIGEST)),
        (DIGEST[:-1], Reference(name=DIGEST[:-1])),
    ],
)
def test_the_four_ways_to_name_a_thing(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize("text", ["", "@", "digits@", "@3", "Digits", "a b", "a@b@c", "../a", "digits@-1", "md5:abc"])
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a reference"):
        parse_reference(text)


def test_a_digest_is_64_lower_case_hexadecimal_digits() -> None:
    assert check_digest("digest", DIGEST) == DIGEST
    for other in (DIGEST.upper(), DIGEST[:-1], f"{DIGEST}\n", f"sha256:{DIGEST}", "", 5, None):
        assert not is_digest(other)
    with pytest.raises(InvalidInput, match="spec_digest: not a SHA-256"):
        check_digest("spec_digest", "../x")


def test_names_and_aliases_cannot_be_taken_for_something_else() -> None:
    assert check_stored_name("name", "digits") == "digits"
    assert check_alias("v1") == "v1"
    with pytest.raises(InvalidInput, match="digest"):
        check_stored_name("name", DIGEST)
    for alias in ("1", "007", "latest"):
        with pytest.raises(InvalidInput, match="reserved"):
            check_alias(alias)
