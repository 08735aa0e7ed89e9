"""Writes an evaluation: a table on the terminal, JSON, or a folder of files. Does not interpret the figures."""

from pathlib import Path

import msgspec

from router.errors import ConfigError
from router.learn.evaluate.results import Evaluation
from router.learn.output import replaced


def json(found: Evaluation) -> str:
    return msgspec.json.encode(found).decode()


def check_folder(folder: Path) -> None:
    """Made where it is missing. Raises ConfigError where nothing can be written there, before work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".headgate"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--out: {folder}: expected a folder to write into: {error.strerror}") from error


def write(found: Evaluation, folder: Path) -> tuple[Path, ...]:
    """`evaluation.json`, a PNG a plot, and `report.html`, which needs none of them."""
    from router.learn.evaluate import page, plots

    pictures = plots.draw(found)
    written = {"evaluation.json": json(found).encode() + b"\n", "report.html": page.html(found, pictures).encode()}
    written |= {f"{picture.name}.png": picture.png for picture in pictures}
    for name, content in written.items():
        with replaced("--out", folder / name) as file:
            file.write(content)
    return tuple(folder / name for name in written)


def show(found: Evaluation, folder: Path | None) -> None:
    from router.learn.evaluate import text

    text.show(found)
    if folder is not None:
        print(f"Plots and report: {folder / 'report.html'}")
