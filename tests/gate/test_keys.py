"""API keys: which are let in, and that none is kept."""

import gc

import pytest

from router.config import ApiKey
from router.errors import ConfigError, Unauthorized
from router.gate.keys import Keys

KEYS = tuple(ApiKey(key=f"key number {i}, which is secret") for i in range(1000))


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEYS[7].key.encode()},
        {b"authorization": b"bEARER   " + KEYS[7].key.encode() + b"  "},
        {b"x-api-key": KEYS[7].key.encode()},
        {b"authorization": b"Bearer of a gateway", b"x-api-key": KEYS[7].key.encode()},
        {b"authorization": b"Bearer " + KEYS[7].key.encode(), b"x-api-key": b"of a gateway"},
    ],
)
def test_one_right_key_is_enough_and_gives_its_id(headers: dict[bytes, bytes]) -> None:
    assert Keys(KEYS).identify(headers) == Keys(KEYS[7:8]).identify(headers)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "an API key is required"),
        ({b"authorization": b"Basic " + KEYS[0].key.encode()}, "an API key is required"),
        ({b"authorization": b"Bearer ", b"x-api-key": b""}, "an API key is required"),
        ({b"x-api-key": KEYS[0].key.encode()[:-1]}, "not one of this server's"),
        ({b"authorization": b"Bearer " + KEYS[0].key.encode() + b"x"}, "not one of this server's"),
        ({b"x-api-key": bytes(100_000)}, "not one of this server's"),
        ({b"x-api-key": b"\xff\xfe"}, "not one of this server's"),
    ],
)
def test_no_key_or_a_wrong_one_is_refused(headers: dict[bytes, bytes], why: str) -> None:
    with pytest.raises(Unauthorized, match=why):
        Keys(KEYS).identify(headers)


def test_without_keys_everyone_is_let_in_without_an_id() -> None:
    assert not Keys(())
    assert Keys(()).identify({b"x-api-key": b"any"}) == ""


@pytest.mark.parametrize("key", ["", " ", "a\n"])
def test_a_key_that_no_request_can_present_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=r"at `\$.server.api_keys\[1\]`"):
        Keys((ApiKey(key="real"), ApiKey(key=key)))


def test_only_digests_are_kept() -> None:
    keys = Keys((ApiKey(key="a key that is nowhere else"),))
    reached, kept = [keys], []
    while reached:
        one = reached.pop()
        if isinstance(one, type) or one in kept:
            continue
        kept.append(one)
        reached += gc.get_referents(one)
    assert {len(one) for one in kept if isinstance(one, bytes)} == {32}
    assert {len(one) for one in kept if isinstance(one, str)} == {8}


def test_of_a_key_with_a_choice_of_its_own_that_is_known_by_its_id() -> None:
    own, other = ApiKey(key="own", choice="handoff"), ApiKey(key="other")
    keys = Keys((own, other))
    id = keys.find(b"Bearer own", b"")
    assert keys.choices == {id: "handoff"}
    assert keys.find_plain(b"Bearer other", b"") == keys.find(b"", b"other") != id
    with pytest.raises(Unauthorized, match="settings of its own"):
        keys.find_plain(b"", b"own")
