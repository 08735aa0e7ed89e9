"""Where what can be found out again is kept."""

from pathlib import Path

import pytest

from router.config import cache_folder


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HEADGATE_CACHE_HOME": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"HEADGATE_CACHE_HOME": "a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/headgate"),
        ({"XDG_CACHE_HOME": "b", "HOME": "/c"}, "/c/.cache/headgate"),
    ],
)
def test_the_first_absolute_of_our_folder_the_cache_and_the_home_counts(env: dict[str, str], folder: str) -> None:
    assert cache_folder(env) == Path(folder)


def test_without_a_home_folder_nothing_is_kept() -> None:
    assert cache_folder({}) is None


def test_servers_of_tests_keep_nothing_in_the_cache_of_who_runs_them(cache_home: Path) -> None:
    assert cache_folder() == cache_home
