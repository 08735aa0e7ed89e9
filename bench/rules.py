"""What one rule of the config costs a request, by its signal: CPU time of this thread, of a text of 1 KB in which it
does not hold, so that all of it is read. `python bench/rules.py`"""

import time
from statistics import median

import prompts
import report

from router.config import Intent, Member, Rule, When
from router.pipeline.ruling import Rules
from router.types import Query, Turn

POOL = (Member(name="small", model="a"), Member(name="large", model="b"))
SIGNALS = {
    "tokens": When(tokens_over=100_000),
    "header": When(headers={"x-team": "law"}),
    "words": When(words=("prove", "lemma", "derive", "corollary")),
    "code": When(code=True),
    "scripts": When(scripts=("cyrillic", "han")),
    "intent": When(intent=Intent(examples=("How do I reset my password?",), least=0.99)),
    "personal": When(personal=("email", "phone", "card", "iban", "ssn", "ip")),
}


def measure(when: When, calls: int) -> float:
    """Microseconds a request."""
    (text,) = prompts.texts(1, 180)
    text, body = text[:1_000], prompts.chat(text[:1_000])
    query = Query(kind="chat", model="auto", turns=(Turn("user", text),))
    rules = Rules([Rule(name="r", when=when, local=True)], POOL)
    held, _ = rules.said(query, body, 250)
    assert held is None
    begun = time.thread_time()
    for _ in range(calls):
        rules.said(query, body, 250)
    return (time.thread_time() - begun) / calls * 1e6


def main() -> None:
    args = report.parser(__doc__).parse_args()
    calls = 20 if args.quick else 1_000
    runs = [{name: measure(when, calls) for name, when in SIGNALS.items()} for _ in range(args.runs)]
    report.finish(args, "rules", {f"{name}_us": round(median(run[name] for run in runs), 1) for name in SIGNALS})


if __name__ == "__main__":
    main()
