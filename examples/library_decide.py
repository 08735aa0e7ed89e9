"""Only the decision: which model of a pool a text should go to, and why. No engine runs, nothing is downloaded.

python examples/library_decide.py
python examples/library_decide.py "Prove that the square root of two is irrational."
"""

import sys

from router import Router
from router.config import Member

TEXTS = (
    "Hello!",
    "What is the capital of France?",
    "Let f be an entire function with |f(z)| <= 1 + |z|^2 for all z. Which of these must be true of f, and why?",
)

#: `like` names a model of the checkpoint; `strength` (MMLU-Pro accuracy, as on a model card) does for any other.
POOL = (
    Member(name="small", like="llama-3.1-8b-instruct", usd_per_hour=2.0, gpu_share=0.2, time_per_output_token_s=0.008),
    Member(name="large", strength=0.63, usd_per_hour=2.0, gpu_share=0.7, time_per_output_token_s=0.03),
)


def main(texts: tuple[str, ...]) -> None:
    decider = Router.decider(POOL, price=100.0)
    for text in texts:
        decision = decider.decide(text)
        print(f"{decision.model:5}  {text}")
        for term in decision.terms:
            why = f"quality {term.quality:.3f}, cost ${term.cost_usd:.6f}, utility {term.utility:.3f}"
            print(f"       {term.model}: {why}")
        print(f"       {decision.reason}, by {decision.margin:.3f}\n")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or TEXTS)
