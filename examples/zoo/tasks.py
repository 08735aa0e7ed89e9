"""The zoo's tasks: six kinds of question in four levels each, with the working that leads to the answer.

A question is drawn by task, level and the caller's `random.Random`. Whether it is for training or for tests hangs on
its content alone, so that no test question is ever trained on, in whatever words. Checks answers. Knows no tokenizer
and no model.
"""

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

LEVELS = (1, 2, 3, 4)
LAST = "so "  #: what follows it, to the end of the answer, is the result
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = ("Tom", "Ann", "Sam", "Eva", "Max", "Lea")
THINGS = ("apples", "books", "coins", "eggs", "pens", "cards")


class Question(NamedTuple):
    """One question. `answer` is the working and, after `so`, the result; `key` is the same in all wordings."""

    task: str
    level: int
    prompt: str
    answer: str
    key: str

    @property
    def result(self) -> str:
        """What a right answer ends with."""
        return self.answer.rpartition(LAST)[2]

    @property
    def group(self) -> str:
        """First 16 hex digits of the sha1 of the question without its wording."""
        return digest(f"{self.task} {self.key}")

    @property
    def split(self) -> str:
        """`test` for one question in ten, else `train`."""
        return "test" if int(self.group, 16) % 10 == 0 else "train"

    @property
    def router_split(self) -> str:
        """Of the questions that models are tested on, what a router may learn from: `test` for one in five."""
        return "test" if int(self.group[:8], 16) % 5 == 0 else "train"


def digest(text: str) -> str:
    """First 16 hex digits of the sha1."""
    return hashlib.sha1(text.encode()).hexdigest()[:16]


def columns(a: int, b: int) -> str:
    """Addition column by column, from the right: `1+7=8 2+7=9 8+9=17 4+0+1=5`."""
    steps, carry = [], 0
    for place in range(len(str(max(a, b)))):
        left, right = a // 10**place % 10, b // 10**place % 10
        steps.append(f"{left}+{right}" + "+1" * carry + f"={left + right + carry}")
        carry = (left + right + carry) // 10
    return " ".join(steps)


def add(rng: random.Random, level: int) -> Question:
    """A sum of two numbers of 2, 3, 4 or 5 digits. In all wordings the numbers end as far from the prompt's end."""
    digits = level + 1
    a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
    prompt = rng.choice(("{}+{}=", "What is {}+{}?", "Add {}+{}.")).format(a, b)
    return Question("add", level, prompt, f"{columns(a, b)} {LAST}{a + b}", f"{a}+{b}")


def sort(rng: random.Random, level: int) -> Question:
    """3, 4, 5 or 6 numbers of two digits, no two of the same tens, smallest first."""
    numbers = [str(10 * ten + rng.randrange(10)) for ten in rng.sample(range(1, 10), level + 2)]
    asked = " ".join(numbers)
    prompt = rng.choice(("Sort {}.", "Put in order: {}.")).format(asked)
    return Question("sort", level, prompt, f"{LAST}{' '.join(sorted(numbers))}", asked)


def copy(rng: random.Random, level: int) -> Question:
    """4, 7, 10 or 13 letters, written out again; from the third level on letters come more than once."""
    count = 3 * level + 1
    letters = rng.sample(LETTERS, count) if level < 3 else rng.choices(LETTERS[:12], k=count)
    asked = " ".join(letters)
    prompt = rng.choice(("Copy {}", "Repeat after me: {}")).format(asked)
    return Question("copy", level, prompt, f"{LAST}{asked}", asked)


def count(rng: random.Random, level: int) -> Question:
    """How often a letter is among 4, 7, 10 or 13, with the count kept behind each letter."""
    letters = rng.choices(LETTERS[:6], k=3 * level + 1)
    wanted = rng.choice(letters)
    steps = [f"{letter}{letters[: place + 1].count(wanted)}" for place, letter in enumerate(letters)]
    asked = f"{wanted} in {', '.join(letters)}"  # as many tokens a letter as in the working: one offset to look back by
    prompt = rng.choice(("Count {}.", "How many {}?")).format(asked)
    return Question("count", level, prompt, f"{' '.join(steps)} {LAST}{letters.count(wanted)}", asked)


def modular(rng: random.Random, level: int) -> Question:
    """The rest of a sum of 3, 4, 5 or 6 digits, reduced after each step."""
    modulus = rng.randint(3, 9)
    rest, *terms = (rng.randint(0, 9) for _ in range(level + 2))
    asked = f"{'+'.join(map(str, (rest, *terms)))} mod {modulus}"
    steps = []
    for term in terms:
        steps.append(f"{rest}+{term}={rest + term}")
        rest = (rest + term) % modulus
    prompt = rng.choice(("{}=", "What is {}?")).format(asked)
    return Question("modular", level, prompt, f"{' '.join(steps)} {LAST}{rest}", asked)


#: Each with its two steps: signs, and how a sentence says them.
STORIES = (
    ("{name} has {a} {things}, finds {b}, buys {c}. How many now?", "++"),
    ("{name} has {a} {things}, buys {b}, loses {c}. How many now?", "+-"),
    ("{name} has {a} {things}, sells {b}, finds {c}. How many now?", "-+"),
    ("{name} has {a} {things}, loses {b}, sells {c}. How many now?", "--"),
    ("{name} has {a} bags of {b} {things}, finds {c}. How many now?", "*+"),
    ("{name} has {a} bags of {b} {things}, loses {c}. How many now?", "*-"),
)
SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
#: Of each level: the stories, and the smallest and largest of a, b and c.
RANGES = {
    1: (STORIES[:4], (1, 9), (1, 9), (1, 9)),
    2: (STORIES[:4], (10, 19), (1, 9), (1, 9)),
    3: (STORIES[:4], (20, 49), (1, 9), (1, 9)),
    4: (STORIES[4:], (2, 7), (2, 7), (1, 9)),
}


def story(rng: random.Random, level: int) -> Question:
    """A word problem of two steps: with one digit, with 10 to 19, with 20 to 49, or with a product first."""
    stories, *ranges = RANGES[level]
    while True:
        text, (first, second) = rng.choice(stories)
        a, b, c = (rng.randint(*bounds) for bounds in ranges)
        middle = SIGNS[first](a, b)
        result = SIGNS[second](middle, c)
        if middle >= 0 and 0 <= result <= 99:
            break
    prompt = text.format(name=rng.choice(NAMES), things=rng.choice(THINGS), a=a, b=b, c=c)
    working = f"{a}{first}{b}={middle} {middle}{second}{c}={result}"
    return Question("story", level, prompt, f"{working} {LAST}{result}", working)


TASKS: dict[str, Callable[[random.Random, int], Question]] = {
    "add": add,
    "sort": sort,
    "copy": copy,
    "count": count,
    "modular": modular,
    "story": story,
}


def draw(rng: random.Random, task: str, level: int, split: str) -> Question:
    """One question of the task, level and split (`train` or `test`)."""
    while True:
        question = TASKS[task](rng, level)
        if question.split == split:
            return question


def mixed(rng: random.Random, number: int, split: str) -> list[Question]:
    """`number` different questions, all tasks and levels alike often (to one). ValueError when there are too few."""
    cells = [(task, level) for task in TASKS for level in LEVELS]
    found: dict[str, Question] = {}
    tries = 0
    while len(found) < number:
        task, level = cells[len(found) % len(cells)]
        question = draw(rng, task, level, split)
        tries = tries + 1 if question.prompt in found else 0
        if tries > 1000:
            raise ValueError(f"{number} different questions: {task}, level {level}, {split} has too few")
        found.setdefault(question.prompt, question)
    return list(found.values())


def score(question: Question, response: str) -> float:
    """1.0 when what follows the response's last `so` is the result, else 0.0; the working is not graded."""
    _, last, result = response.rpartition(LAST)
    return float(bool(last) and result.strip() == question.result)
