"""Numbers of a config: each has bounds, and what is outside them is refused by name."""

import math
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from router import config
from router.config import Config, Limits, Member, Routing, Server, Supervision
from router.config.bounds import Between, bounds_of
from router.errors import ConfigError

BRANCHES = {
    "server": Server,
    "server.limits": Limits,
    "routing": Routing,
    "supervision": Supervision,
    "pool[0]": Member,
}


def numeric(struct: type[msgspec.Struct]) -> dict[str, Between | None]:
    hints = get_type_hints(struct, include_extras=True)
    plain = get_type_hints(struct)
    return {
        name: bounds_of(hint) for name, hint in hints.items() if {int, float} & {plain[name], *get_args(plain[name])}
    }


NUMBERS = [(branch, name, bounds) for branch, struct in BRANCHES.items() for name, bounds in numeric(struct).items()]


def refused(branch: str, key: str, value: Any) -> str:
    tree: dict[str, Any] = {"pool": [{"name": "a", "kind": "openai", "url": "http://h"}]}
    node = tree
    for step in branch.split(".") if branch != "pool[0]" else ():
        node = node.setdefault(step, {})
    (tree["pool"][0] if branch == "pool[0]" else node)[key] = value
    with pytest.raises(ConfigError) as error:
        config.build(tree, source="h.yaml")
    return str(error.value)


@pytest.mark.parametrize(("branch", "key", "bounds"), NUMBERS, ids=[f"{b}.{n}" for b, n, _ in NUMBERS])
def test_every_number_has_bounds_and_is_held_to_them(branch: str, key: str, bounds: Between | None) -> None:
    assert bounds is not None, "give its type bounds (router/config/bounds.py)"
    hint = get_type_hints(BRANCHES[branch])[key]
    whole = float not in (hint, *get_args(hint))
    for value in (math.nan, math.inf, -math.inf, 1e300, bounds.least - 1, bounds.most * 1.01 + 1, 2**63, -(2**63)):
        if whole and not math.isfinite(value):
            message = refused(branch, key, value)
            assert message.startswith("h.yaml: Expected `int")
        else:
            message = refused(branch, key, int(value) if whole else value)
            assert message.startswith(f"h.yaml: expected {bounds}, got ")
        assert f" - at `$.{branch}.{key}`" in message
    assert "got `bool`" in refused(branch, key, True)


@pytest.mark.parametrize(("branch", "key", "bounds"), NUMBERS, ids=[f"{b}.{n}" for b, n, _ in NUMBERS])
def test_every_default_is_within_its_bounds(branch: str, key: str, bounds: Between | None) -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(BRANCHES[branch])}
    assert bounds is not None
    assert fields[key] is None or bounds.holds(fields[key])


def test_nan_and_booleans_are_in_no_bounds() -> None:
    assert not Between(0, 1).holds(math.nan)
    assert not Between(0, 1).holds(True)
    assert Between(0, 1).holds(1)


@pytest.mark.parametrize(
    ("branch", "key", "value", "message"),
    [
        ("routing", "price", math.nan, "expected 0 to 1,000,000,000,000, got nan - at `$.routing.price`"),
        ("routing", "threshold", 2, "expected 0 to 1, got 2.0 - at `$.routing.threshold`"),
        ("server.limits", "in_flight", 0, "expected 1 to 1,000,000, got 0 - at `$.server.limits.in_flight`"),
        ("server", "port", 99999, "expected 0 to 65,535, got 99999 - at `$.server.port`"),
        ("supervision", "ping_s", 0, "expected 0.05 to 86,400 seconds, got 0.0 - at `$.supervision.ping_s`"),
        ("pool[0]", "usd_per_hour", -2, "got -2.0 - at `$.pool[0].usd_per_hour`"),
        ("supervision", "backoff_max_s", 0.5, "expected at least `backoff_s`, 1, got 0.5 - at `$.supervision"),
        ("supervision", "ping_timeout_s", 1, "expected at least `ping_s`, 5, got 1 - at `$.supervision"),
        ("server", "admin_port", 8000, "expected another port than `$.server.port`, got 8000 too"),
        ("pool[0]", "capabilities", ["Chat"], "expected 'chat', got 'Chat' - at `$.pool[0].capabilities[0]`"),
        ("pool[0]", "capabilities", ["chat", "tols"], "expected 'tools', got 'tols' - at `$.pool[0].capabilities[1]`"),
        ("pool[0]", "capabilities", [], "expected at least one capability, got none - at `$.pool[0].capabilities`"),
        ("routing", "judge", "b", "expected a member, one of a, got 'b' - at `$.routing.judge`"),
    ],
)  # fmt: skip
def test_a_refusal_names_value_key_and_what_is_allowed(branch: str, key: str, value: Any, message: str) -> None:
    assert message in refused(branch, key, value)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0:8000", "", " ", "http://h", "h/", "[::1]", "a b", "*", "-h", "a\nb", "h" * 254, "user@h", "1.5", "127.1"],
)
@pytest.mark.parametrize("key", ["host", "admin_host"])
def test_a_host_is_an_address_or_a_name_alone(key: str, host: str) -> None:
    expected = f"h.yaml: expected an address or a host's name, without port, got {host!r}"
    assert refused("server", key, host).startswith(expected[:60])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "localhost", "gpu-1.example.com", "my_host"])
def test_hosts_as_they_are_written_stay(host: str) -> None:
    assert config.build({"server": {"host": host}, "pool": [{"name": "a", "model": "m"}]}).server.host == host


@pytest.mark.parametrize("name", [" a", "a ", "a\nb", "a\x7f", "a\u2028b", "a" * 257])
def test_a_name_that_no_header_could_carry_is_refused(name: str) -> None:
    assert "expected a name of up to 256 characters" in refused("pool[0]", "name", name)


@pytest.mark.parametrize("key", ["engine_args", "env"])
def test_what_only_an_engine_has_is_refused_of_a_url(key: str) -> None:
    message = f"only an engine has this; this member is one of `kind: openai` - at `$.pool[0].{key}`"
    assert message in refused("pool[0]", key, {"a": "b"})


@pytest.mark.parametrize(("key", "value"), [("url", "http://h"), ("api_key", "k")])
def test_what_only_a_url_has_is_refused_of_an_engine(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"only a member of `kind: openai` has this.* - at `\$\.pool\[0\]\.{key}`"):
        config.build({"pool": [{"name": "a", "model": "m", key: value}]})


def test_code_and_flags_are_held_to_the_same() -> None:
    made = Config(pool=(Member(name="a", model="m"),), routing=Routing(price=math.inf))
    with pytest.raises(ConfigError, match=r"code: expected 0 to .*, got inf - at `\$\.routing\.price`"):
        config.check(made, "code")
