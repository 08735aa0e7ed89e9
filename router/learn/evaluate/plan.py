"""The options of an evaluation. No behaviour."""

from pathlib import Path
from typing import Any

import msgspec

from router.learn.evaluate.costs import Price
from router.learn.evaluate.pairs import Asked
from router.learn.fit.calibration import Method
from router.learn.fit.recipe import Recipe


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `headgate eval`."""

    tables: tuple[Path, ...]
    recipe: Recipe  #: of the native head and of the baselines' features
    routers: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = {}  #: of methods, by name
    checkpoints: tuple[str, ...] = ()
    folds: int = 5
    leave_tasks_out: bool = False
    train_on: tuple[str, ...] = ()
    test_on: tuple[str, ...] = ()  #: empty: no transfer, all is tested
    learning_curve: tuple[int, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()  #: weak, strong; empty: each table's widest
    models: tuple[str, ...] = ()  #: measure only these; all are trained on; empty: all
    prices: dict[str, Price] = {}
    calibration: Method = "platt"
    prompts: int = 0  #: at most so many of each table, drawn at random; 0: all
    asked: Asked = Asked()
    command: str = ""
