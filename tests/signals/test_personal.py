"""Data about persons: what is found, what is not, and that no text makes it slow."""

import time

import pytest

from router.config import Personal
from router.signals import personal

KINDS: tuple[Personal, ...] = ("email", "phone", "card", "iban", "ssn", "ip")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to bob@example.com, please"),
        ("email", "a.b+c@sub.example.co.uk"),
        ("email", "postmaster＠example.org"),
        ("phone", "+49 30 1234567"),
        ("phone", "+1 (415) 555-2671"),
        ("phone", "(415) 555-2671"),
        ("phone", "Tel. 030/1234567"),
        ("phone", "0049 171 1234567"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5 times 4111-1111-1111-1111"),
        ("card", "on 7 4111 1111 1111 1111 12/27"),
        ("card", "378282246310005"),
        ("card", "４１１１ １１１１ １１１１ １１１１"),
        ("iban", "DE89 3704 0044 0532 0130 00 and more"),
        ("iban", "gb29nwbk60161331926819"),
        ("ssn", "no. 123-45-6789."),
        ("ip", "from 192.168.0.1 on"),
    ],
)
def test_what_has_the_form_and_the_checksum_is_found(kind: Personal, text: str) -> None:
    assert personal.found(text, (kind,)) == kind


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "price @ 3.50, @home and user@localhost"),
        ("phone", "on 2024-01-02 12:30:00 and 01.02.2024"),
        ("phone", "12 * 34 = 408; 3.14159; 1,000,000; 00000000000"),
        ("card", "4111 1111 1111 1112"),
        ("card", "1234567890123456789012345"),
        ("iban", "DE89 3704 0044 0532 0130 01"),
        ("iban", "ZZ89 3704 0044 0532 0130 00"),
        ("ssn", "000-12-3456 and 123-45-67890"),
        ("ip", "version 1.2.3.4.5, and 999.1.1.1"),
    ],
)
def test_what_has_not_is_not_found(kind: Personal, text: str) -> None:
    assert personal.found(text, (kind,)) == ""


@pytest.mark.parametrize("piece", ["1 ", "1", "a", "11 ", "030 ", "1-", "a@", "a.", "+1", "(2", "DE12", "0.", "1.1."])
def test_ten_times_the_text_takes_about_ten_times_as_long(piece: str) -> None:
    """Not a hundred times: by process time, so that a busy machine does not count."""
    taken = []
    for size in (20_000, 200_000):
        text = piece * (size // len(piece))
        begun = time.process_time()
        personal.found(text, KINDS)
        taken.append(time.process_time() - begun)
    assert taken[1] < 40 * max(taken[0], 0.002)
