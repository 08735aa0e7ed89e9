"""The task of the pair: sums, a little wording around them, a few fixed facts. Makes exchanges and checks answers.

Pure Python, seeded by the caller's `random.Random`; knows no tokenizer and no model.
"""

import json
import random
import re
from typing import NamedTuple

#: Fixed exchanges, so that a greeting is answered with a greeting.
FACTS = {
    "Hello!": "Hello! Ask me for a sum.",
    "Hi": "Hello! Ask me for a sum.",
    "How are you?": "Fine, thank you. Ask me for a sum.",
    "Who are you?": "I am one of a pair of tiny models that add numbers.",
    "What can you do?": "I add numbers, count, and explain how I add.",
    "Thank you!": "You are welcome.",
    "Goodbye": "Goodbye!",
    "What is the capital of France?": "Paris.",
    "What is the capital of Italy?": "Rome.",
    "What colour is the sky?": "Blue.",
    "How many days are in a week?": "Seven.",
    "How many months are in a year?": "Twelve.",
    "Say yes or no.": "yes",
    "Tell me a joke.": "Why is six afraid of seven? Because seven eight nine.",
}
WORDINGS = ("What is {}?", "what is {}", "Please add {}.", "How much is {}?", "Add {}", "Can you add {}?", "{} = ?")
SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You add numbers.", "You are a careful calculator.")
IN_JSON = "Answer in JSON."


class Exchange(NamedTuple):
    """One question, its answer, and its kind. `digits` counts those of the longest term; 0 without terms."""

    task: str
    prompt: str
    answer: str
    digits: int = 0
    system: str = ""
    tools: bool = False
    call: str = ""  #: the tool call made before the answer, if any
    result: str = ""  #: what that call returned


def number(rng: random.Random, digits: int) -> int:
    """A number of exactly `digits` digits; 0 is a number of one digit."""
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def terms(rng: random.Random, digits: int, count: int = 2) -> list[int]:
    """`count` numbers, the longest of `digits` digits, the others mostly as long."""
    lengths = [digits] + [digits if rng.random() < 0.6 else rng.randint(1, digits) for _ in range(count - 1)]
    rng.shuffle(lengths)
    return [number(rng, length) for length in lengths]


def worked(numbers: list[int]) -> str:
    """Column addition on one line, from the right: `128+77` is `8+7=15, 2+7+1=10, 1+0+1=2, so 205`."""
    columns, carry = [], 0
    for place in range(len(str(max(numbers)))):
        digits = [number // 10**place % 10 for number in numbers] + [carry] * (carry > 0)
        columns.append("+".join(map(str, digits)) + f"={sum(digits)}")
        carry = sum(digits) // 10
    return ", ".join(columns) + f", so {sum(numbers)}"


def told(numbers: list[int], work_from: int) -> str:
    """The answer to a sum: the worked line when a term has `work_from` digits or there are three, else the result."""
    return worked(numbers) if len(numbers) > 2 or max(numbers) >= 10 ** (work_from - 1) else str(sum(numbers))


def short_sum(rng: random.Random, digits: int, count: int = 2, work_from: int = 2) -> Exchange:
    """`12+7=`"""
    numbers = terms(rng, digits, count)
    task = "sum" if count == 2 else "sum_of_three"
    return Exchange(task, "+".join(map(str, numbers)) + "=", told(numbers, work_from), digits)


def worded_sum(rng: random.Random, digits: int, work_from: int = 2) -> Exchange:
    """`What is 12 + 7?`"""
    numbers = terms(rng, digits)
    joint = rng.choice((" + ", "+", " and "))
    asked = rng.choice(WORDINGS).format(joint.join(map(str, numbers)))
    return Exchange("worded_sum", asked, told(numbers, work_from), digits)


def json_sum(rng: random.Random, digits: int) -> Exchange:
    """`12+7= Answer in JSON.`"""
    a, b = terms(rng, digits)
    return Exchange("json_sum", f"{a}+{b}= {IN_JSON}", json.dumps({"answer": a + b}), digits)


def tool_sum(rng: random.Random, digits: int) -> Exchange:
    """A sum while a tool named `add` is offered: the answer is a call, as vLLM's `hermes` parser reads it."""
    a, b = terms(rng, digits)
    call = json.dumps({"name": "add", "arguments": {"a": a, "b": b}})
    return Exchange("tool_sum", f"{a}+{b}=", f"<tool_call>{call}</tool_call>", digits, tools=True)


def tool_answer(rng: random.Random, digits: int) -> Exchange:
    """The same, once the call has been made and its result is there: the answer is the result."""
    asked = tool_sum(rng, digits)
    result = str(sum(map(int, numbers_in(asked.prompt))))
    return asked._replace(task="tool_answer", answer=result, call=asked.answer, result=result)


def worked_json_sum(rng: random.Random, digits: int) -> Exchange:
    """`json_sum` of any length, with the columns as a field before the answer."""
    a, b = terms(rng, digits)
    work, _ = worked([a, b]).split(", so ")
    return Exchange("worked_json_sum", f"{a}+{b}= {IN_JSON}", json.dumps({"work": work, "answer": a + b}), digits)


def explained_sum(rng: random.Random, digits: int) -> Exchange:
    """`Explain 128+77`: the worked line, however short the sum."""
    numbers = terms(rng, digits)
    return Exchange("explained_sum", "Explain " + "+".join(map(str, numbers)), worked(numbers), digits)


def counting(rng: random.Random) -> Exchange:
    """`Count from 3 to 30.`: the long answer."""
    first = rng.randint(1, 60)
    last = first + rng.randint(1, 29)
    return Exchange("counting", f"Count from {first} to {last}.", ", ".join(map(str, range(first, last + 1))), 0)


def fact(rng: random.Random) -> Exchange:
    """A greeting or a fixed fact."""
    prompt = rng.choice(tuple(FACTS))
    return Exchange("fact", prompt, FACTS[prompt])


def numbers_in(text: str) -> list[str]:
    """The whole numbers written in `text`, in order."""
    return re.findall(r"\d+", text)


def score(exchange: Exchange, response: str) -> float:
    """1.0 when the response is right, else 0.0. Of a sum the last number counts, else the whole text."""
    if "sum" in exchange.task and exchange.task != "tool_sum":
        return float(numbers_in(response)[-1:] == numbers_in(exchange.answer)[-1:])
    return float(response.strip() == exchange.answer)
