"""The results of an evaluation: the fields of `headgate eval --json`. No behaviour. Fields are appended, never renamed.

Scores, qualities and shares are in 0..1, times in seconds unless a name says otherwise, costs in US dollars.
"""

import msgspec

from router.learn.evaluate.metrics import Interval
from router.learn.evaluate.metrics_calibration import Bin

SCHEMA = 1


class Table(msgspec.Struct, frozen=True):
    """A table that was read."""

    name: str
    sha256: str
    rows: int
    prompts: int
    models: tuple[str, ...]
    tested: int  #: prompts that were predicted


class Router(msgspec.Struct, frozen=True):
    """One contestant."""

    name: str
    kind: str  #: trained, checkpoint, or baseline
    seconds: float = 0.0  #: of training and predicting, all folds
    decision_us: float | None = None  #: one query, median; None for baselines
    batch_per_s: float | None = None  #: prompts scored a second in a batch
    leaks: tuple[str, ...] = ()  #: tables here that a checkpoint was trained on
    placed: tuple[str, ...] = ()  #: tested models without training labels, and how they were placed


class Cpt(msgspec.Struct, frozen=True):
    """The least share of strong calls that recovers `reach` of the gap."""

    reach: float
    share: float


class Sent(msgspec.Struct, frozen=True):
    """The share of prompts really sent to the strong model, by a threshold set on other prompts."""

    asked: float
    sent: float


class TaskMistakes(msgspec.Struct, frozen=True):
    """Shares of a task's prompts, when as many of all prompts are sent to the strong model as gain by it."""

    task: str
    prompts: int
    missed: float  #: kept on the weak model although the strong one scores higher
    needless: float  #: sent to the strong model although the weak one scores as well


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant on one pair."""

    router: str
    apgr: float
    apgr_95: Interval
    cpt: tuple[Cpt, ...]
    lead: float | None = None  #: APGR above that of `Pair.against`
    lead_95: Interval | None = None  #: of the same resampled prompts
    brier: float | None = None  #: mean of both models; None where no quality is predicted
    ece_mass: float | None = None
    ece_width: float | None = None
    sent: tuple[Sent, ...] = ()
    share_error: float | None = None  #: worst of `sent`
    pgr: tuple[float, ...] = ()  #: at shares of strong calls 0, 1 %, ... 100 %
    reliability_weak: tuple[Bin, ...] = ()
    reliability_strong: tuple[Bin, ...] = ()
    tasks: tuple[TaskMistakes, ...] = ()


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A weak and a strong model of one table."""

    table: str
    weak: str
    strong: str
    prompts: int
    weak_score: float
    strong_score: float
    against: str  #: whom leads are taken over
    routers: tuple[PairFigures, ...]


class Model(msgspec.Struct, frozen=True):
    """A model of a table, over the tested prompts."""

    name: str
    score: float
    cost_usd: float | None  #: mean of a prompt


class CostPoint(msgspec.Struct, frozen=True):
    """What one price (lambda) comes to, a prompt."""

    price: float | None  #: None: by cost alone
    cost_usd: float
    score: float


class TaskRegret(msgspec.Struct, frozen=True):
    """How far the chosen models' scores stay below the best ones', a prompt."""

    task: str
    prompts: int
    regret: float


class ManyFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant on all models of a table, by the highest predicted quality; costs where the table has them."""

    router: str
    accuracy: float
    accuracy_95: Interval
    lead: float  #: accuracy above that of `Many.against`
    lead_95: Interval
    of_gap: float  #: of the way from the best single model to the oracle
    brier: float | None = None  #: mean of all models
    ece_mass: float | None = None
    ece_width: float | None = None
    aiq: float | None = None
    saving: float | None = None  #: share of the best single model's cost, at its accuracy; None: not reached
    curve: tuple[CostPoint, ...] = ()
    tasks: tuple[TaskRegret, ...] = ()


class Many(msgspec.Struct, frozen=True, kw_only=True):
    """A table of more than two models."""

    table: str
    prompts: int  #: those that every model has answered
    models: tuple[Model, ...]
    best_single: str
    against: str
    single_aiq: float | None  #: of the single models' own hull
    routers: tuple[ManyFigures, ...]


class Learnt(msgspec.Struct, frozen=True):
    """One router trained on a part of the labels: APGR of a pair, or accuracy over all models of a table."""

    router: str
    table: str
    what: str  #: weak -> strong, or all models
    figure: str  #: apgr or accuracy
    labels: int  #: labelled prompts a table; 0: all
    value: float
    low: float
    high: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    schema: int = SCHEMA
    version: str
    date: str
    command: str
    protocol: str
    held_out: str  #: a sentence: what no fit has seen
    seed: int
    draws: int  #: of the bootstrap
    versions: dict[str, str]
    tables: tuple[Table, ...]
    routers: tuple[Router, ...]
    pairs: tuple[Pair, ...]
    many: tuple[Many, ...]
    learning: tuple[Learnt, ...] = ()
    caveats: tuple[str, ...] = ()
