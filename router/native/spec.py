"""What defines the features: sizes, orders, pooling caps, seed, turn weights. Kept in a checkpoint (docs/features.md).

Knows nothing of files, models or quality.
"""

import msgspec

from router.errors import ConfigError

SHAPE_ROWS = 128
MAX_ORDER = 8


class EncoderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in rows of the folded table. A group of 0 rows is off."""

    pieces: int  #: vocabulary entries, one row each
    unk: int  #: id of `[UNK]`
    max_piece: int  #: code points of the longest vocabulary entry, without `##`
    word_rows: int = 32768
    word_orders: tuple[int, ...] = (1, 2)
    char_rows: int = 0
    char_orders: tuple[int, ...] = (3, 4)
    shape_rows: int = SHAPE_ROWS
    piece_cap: float = 1.0
    word_cap: float = 1e9
    char_cap: float = 1e9
    seed: int = 0

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.pieces + self.word_rows + self.char_rows + self.shape_rows

    @property
    def bases(self) -> tuple[int, int, int, int]:
        """First row of pieces, words, chars and shape."""
        words = self.pieces
        return 0, words, words + self.word_rows, words + self.word_rows + self.char_rows

    def check(self) -> None:
        """Raises ConfigError naming the key and what was expected."""
        for key in ("word_rows", "char_rows"):
            rows = getattr(self, key)
            if rows < 0 or rows & (rows - 1):
                raise ConfigError(f"encoder.{key}: expected a power of two or 0, got {rows}")
        if self.shape_rows not in (0, SHAPE_ROWS):
            raise ConfigError(f"encoder.shape_rows: expected 0 or {SHAPE_ROWS}, got {self.shape_rows}")
        if not 0 < self.pieces < 1 << 20:
            raise ConfigError(f"encoder.pieces: expected 1 to {(1 << 20) - 1}, got {self.pieces}")
        if not 0 <= self.unk < self.pieces:
            raise ConfigError(f"encoder.unk: expected an id below {self.pieces}, got {self.unk}")
        if not 0 < self.max_piece <= 100:
            raise ConfigError(f"encoder.max_piece: expected 1 to 100, got {self.max_piece}")
        for key in ("word_orders", "char_orders"):
            orders = getattr(self, key)
            if not all(0 < n <= MAX_ORDER for n in orders):
                raise ConfigError(f"encoder.{key}: expected orders from 1 to {MAX_ORDER}, got {orders}")
            if len(orders) > MAX_ORDER:
                raise ConfigError(f"encoder.{key}: expected at most {MAX_ORDER} orders, got {len(orders)}")
        for key in ("piece_cap", "word_cap", "char_cap"):
            if not getattr(self, key) >= 1:
                raise ConfigError(f"encoder.{key}: expected a number of at least 1, got {getattr(self, key)}")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"encoder.seed: expected an unsigned 64-bit number, got {self.seed}")
        if self.rows >= 1 << 31:
            raise ConfigError(f"encoder: expected at most {(1 << 31) - 1} rows, got {self.rows}")


class TurnWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much each turn of a conversation counts, beside 1 for the last user turn (features/conversation.py)."""

    earlier: float = 0.25  #: all other turns together
    decay: float = 0.5  #: of those: each turn against the one after it
    system: float = 0.1  #: all system and developer turns together

    def check(self) -> None:
        """Raises ConfigError naming the key and what was expected."""
        for key in ("earlier", "system"):
            if not 0 <= getattr(self, key) <= 10:
                raise ConfigError(f"turns.{key}: expected a weight from 0 to 10, got {getattr(self, key)}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"turns.decay: expected a number above 0 and at most 1, got {self.decay}")
