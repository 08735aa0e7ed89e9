"""Base URLs of members: what is understood, and what is refused, with a reason that shows no password."""

import pytest

from router import urls
from router.urls import BaseUrl


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", BaseUrl("http://h:8000")),
        ("http://h:8000/v1", BaseUrl("http://h:8000")),
        ("http://h:8000/v1//", BaseUrl("http://h:8000")),
        ("  http://h:8000/v1/ \n", BaseUrl("http://h:8000")),
        ("HTTPS://Gateway.example/v1/account/openai/", BaseUrl("https://gateway.example/v1/account/openai")),
        ("http://h?api-version=1", BaseUrl("http://h", "api-version=1")),
        ("http://h/v1?a=1&b=2", BaseUrl("http://h", "a=1&b=2")),
        ("http://user:p%40w@h/v1", BaseUrl("http://h", "", "Basic dXNlcjpwQHc=")),
        ("http://[::1]:8000/v1", BaseUrl("http://[::1]:8000")),
        ("http://[fe80::1]", BaseUrl("http://[fe80::1]")),
        ("http://müller.example", BaseUrl("http://müller.example")),
    ],
)
def test_a_base_url_is_taken_apart(url: str, base: BaseUrl) -> None:
    assert urls.parse(url) == base


def test_the_query_goes_with_every_path() -> None:
    assert urls.parse("http://h/p/v1?api-version=1").at("/v1/models") == "http://h/p/v1/models?api-version=1"
    assert urls.parse("http://h/p").at("/tokenize") == "http://h/p/tokenize"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", r"expected http\(s\)://"),
        ("h:8000", r"expected http\(s\)://"),
        ("//h/v1", r"expected http\(s\)://"),
        ("ftp://h", r"expected http\(s\)://"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://:80", "names no host"),
        ("http://user@", "names no host"),
        ("http://a..b", "is no host name"),
        ("http://" + "a" * 64, "is no host name"),
        ("http://h\\x", "is no host name"),
        ("http://%zz", "is no host name"),
        ("http://h x/v1", "white space or control characters"),
        ("http://h/v1\n/x", "white space or control characters"),
        ("http://h\x00", "white space or control characters"),
        ("http://h:99999", "a port is 1 to 65535"),
        ("http://h:0", "a port is 1 to 65535"),
        ("http://h:eighty", "a port is 1 to 65535"),
        ("http://[::1", "an IPv6 host is in"),
        ("http://[::1]x", "only an IPv6 address stands in"),
        ("http://h/v1#x", "fragment"),
        ("http://h/v1/chat/completions", "is one endpoint .*; expected the base"),
        ("http://h/v1/chat/completions/", "is one endpoint"),
        ("http://h/chat/completions?x=1", "is one endpoint"),
        ("http://h/v2/rerank", "is one endpoint"),
        ("http://h/v1/models", "is one endpoint"),
        ("http://h/tokenize", "is one endpoint"),
    ],
)
def test_what_is_no_base_url_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        urls.parse(url)


@pytest.mark.parametrize(
    "url", ["http://u:hidden@h:x", "http://u:hidden@h/v1#", "http://u:hid den@h", "http://u:hidden@"]
)
def test_no_reason_and_no_shown_url_holds_a_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        urls.parse(url)
    assert "hid" not in str(error.value)
    assert "hid" not in urls.shown(url)


def test_a_shown_url_hides_login_and_query() -> None:
    assert urls.shown("http://u:p@h/v1?key=k") == "http://***@h/v1?***"
