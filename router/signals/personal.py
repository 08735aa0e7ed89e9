"""Data about persons in a text: found by their form, and by their checksum where they have one.

Every pattern is bounded: the time is in proportion to the text. It finds what is written as people write it; names,
addresses and what stands in pictures it does not.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

from router.config import Personal

_EMAIL = re.compile(r"[\w.%+-]@(?:[\w-]{1,63}\.){1,8}[^\W\d]{2,24}")
#: As near to one another as in any number below: most texts have no such digits, and are not searched further.
_MANY_DIGITS = re.compile(r"\d(?:\D{0,4}\d){6}")
#: With a country's code; as in North America; with a trunk's zero.
_PHONES = (
    re.compile(r"(?:\+|(?<!\d)00)[ ().-]{0,2}[1-9](?:[ ()./-]{0,2}\d){6,13}(?!\d)"),
    re.compile(r"(?<!\d)\(?[2-9]\d\d\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?!\d)"),
    re.compile(r"(?<![\d.,-])\(?0[1-9]\d{0,3}\)?[ /-]{0,3}[1-9](?:[ -]?\d){5,8}(?!\d)"),
)
#: Digits in groups, as on a card.
_DIGITS = re.compile(r"\d(?:[ -]?\d)*")
_CARD_DIGITS = range(13, 20)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])")
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IBAN = re.compile(r"(?<![A-Z0-9])([A-Z]{2})\d\d(?=[ -]?[A-Z0-9])", re.IGNORECASE)
#: Characters of an account's number, by country (ISO 13616's registry).
_IBAN_LENGTH: Final = {
    country: int(length)
    for length, countries in (
        ("15", "NO"), ("16", "BE"), ("18", "DK FI FO GL NL SD"), ("19", "MK SI"),
        ("20", "AT BA EE KZ LT LU XK"), ("21", "CH HR LI LV"), ("22", "BG BH CR DE GB GE IE ME RS VA"),
        ("23", "AE GI IL IQ OM SO TL"), ("24", "AD CZ ES MD PK RO SA SE SK TN VG"), ("25", "LY PT ST"),
        ("26", "IS TR"), ("27", "BI DJ FR GR IT MC MR SM"), ("28", "AL AZ BY CY DO GT HU LB NI PL SV"),
        ("29", "BR EG PS QA UA"), ("30", "JO KW MU YE"), ("31", "MT SC"), ("32", "LC"), ("33", "RU"),
    )
    for country in countries.split()
}  # fmt: skip


def found(text: str, kinds: Iterable[Personal]) -> str:
    """The first of `kinds` that stands in `text`; empty where none does."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # full-width digits, blanks that do not break
    return next((kind for kind in kinds if _FINDERS[kind](text)), "")


def luhn(digits: str) -> bool:
    """The checksum of cards (ISO/IEC 7812)."""
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def mod97(iban: str) -> bool:
    """The checksum of accounts (ISO 7064): `iban` without blanks, in capitals."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _email(text: str) -> bool:
    return "@" in text and _EMAIL.search(text) is not None


def _phone(text: str) -> bool:
    return _MANY_DIGITS.search(text) is not None and any(pattern.search(text) for pattern in _PHONES)


def _card(text: str) -> bool:
    return any(_has_card(re.findall(r"\d+", run[0])) for run in _DIGITS.finditer(text) if len(run[0]) >= 13)


def _has_card(groups: list[str]) -> bool:
    """Whether some groups of digits, one after the other, are a card's number."""
    for i in range(len(groups)):
        digits = ""
        for group in groups[i : i + _CARD_DIGITS.stop]:
            digits += group
            if len(digits) >= _CARD_DIGITS.stop:
                break
            if len(digits) in _CARD_DIGITS and digits[0] in "23456" and luhn(digits):
                return True
    return False


def _iban(text: str) -> bool:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTH.get(match[1].upper(), 0)
        written = re.sub("[ -]", "", text[match.start() : match.start() + 2 * length])[:length].upper()
        if length and len(written) == length and written.isascii() and written.isalnum() and mod97(written):
            return True
    return False


def _ip(text: str) -> bool:
    for match in _IP.finditer(text):
        try:
            ipaddress.IPv4Address(match[0])
        except ValueError:
            continue
        return True
    return False


_FINDERS: Final[dict[Personal, Callable[[str], bool]]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ssn": lambda text: _SSN.search(text) is not None,
    "ip": _ip,
}
