"""The hyperparameters of the native head's training, and the sizes of `headgate train --size`. No behaviour."""

import msgspec


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """How freely the models of a table move: all together, along their strength, each by itself."""

    shared: float = 1.0
    strength: float = 0.5
    single: float = 1.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Scales say how freely a kind of weight may move: a doubled scale is a quarter of the ridge. 0 switches it off."""

    word_rows: int = 131072
    word_orders: tuple[int, ...] = (1, 2)
    char_rows: int = 0
    char_orders: tuple[int, ...] = (3, 4)
    columns: int = 16  #: K of the folded table
    vocabulary: int = 0  #: WordPieces kept, the most frequent ones; 0: all of BERT's
    static: int = 64  #: dimensions of the static table; 0: none
    topics: int = 256  #: directions of latent semantic analysis; 0: none
    seed: int = 0

    piece_scale: float = 0.5
    word_scale: float = 1.0
    char_scale: float = 0.5
    shape_scale: float = 0.0  #: of single buckets
    slope_scale: float = 1.0  #: of a straight line over a family's buckets
    static_scale: float = 0.3
    topics_scale: float = 0.65
    rarity: float = 0.5  #: power of log(prompts / prompts that have a row) in the row's scale; 0: all rows alike

    tie: Tie = Tie()
    ridge: float = 5.5
    task_ridge: float = 0.7  #: of the first stage, which learns the tasks' means; 0: none
    landmarks: int = 128  #: of the smooth teacher's kernel; 0: no teacher
    taught_models: int = 4  #: tables of at most so many models learn from a teacher: their labels are few a prompt
    taught_ridge: float = 0.1  #: of imitating it
    length_ridge: float = 0.06  #: of the lines that tell answers' lengths
    alike: float = 0.3  #: correlation of labels of one prompt: n labels weigh n / (1 + (n - 1) * alike)
    balance: float = 0.12  #: a prompt weighs (prompts of its family of tasks) ** -balance: small benchmarks count
    steps: int = 30
    min_prompts: int = 2  #: a row of fewer training prompts stays zero


SIZES = {
    # For hundreds of short prompts of few words: no word is rare there, and there is little to be held back from.
    "small": Recipe(
        word_rows=4096, vocabulary=2048, static=0, topics=0, landmarks=0, shape_scale=1.0, rarity=0.0, ridge=1.6
    ),
    "default": Recipe(),
}
