"""The example of docs/migrate.md."""

import re
from pathlib import Path

from router.config import load


def test_the_five_lines_are_two_members_that_are_routed(root: Path, tmp_path: Path) -> None:
    (yaml,) = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "migrate.md").read_text(), re.DOTALL)
    assert len(yaml.splitlines()) == 5
    path = tmp_path / "two.yaml"
    path.write_text(yaml)
    config = load(path)
    assert [(member.name, member.kind) for member in config.pool] == [("small", "engine"), ("large", "engine")]
    assert config.routing.price == 100
