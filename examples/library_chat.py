"""Headgate inside your own program: a pool of engines, decisions and streamed answers, without HTTP.

python examples/library_chat.py                                   # the pair of tiny models
python examples/library_chat.py headgate.yaml "What is 2 + 2?"
"""

import asyncio
import sys
from pathlib import Path

from router import Router

PAIR = Path(__file__).parent / "pair" / "headgate.yaml"


async def main(config: str, questions: list[str]) -> None:
    async with Router.from_config(config) as router:  # the engines are up now, and down again at the end
        for question in questions:
            stream = router.chat(question, temperature=0)
            print(f"{question}  ", end="")
            async for chunk in stream:
                print(chunk.text, end="", flush=True)
            assert stream.decision is not None
            print(f"   [{stream.decision.model}, {stream.decision.reason}]")

        # Or all at once, and from the model that you name.
        answer = await router.complete(questions[0], model=router.models()[1].id, temperature=0)
        print(f"{answer.decision.model} alone says: {answer.text} ({answer.usage.completion_tokens} tokens)")


if __name__ == "__main__":
    config, *questions = sys.argv[1:] or [str(PAIR)]
    asyncio.run(main(config, questions or ["What is 7 + 8?", "4821+977="]))
