"""What `decision.py --base` times in one checkout: for each line read, the p50 of a decision with 2 and with 32 models.

The `router` on the path is that checkout's. First line written: its folder, and the members chosen; then a line a run,
in microseconds.
"""

import json
import statistics
import sys

import decision

import router

MODELS = (2, 32)


def main(checkpoint: str, texts: int) -> None:
    asked = [decision.query(text) for text in decision.windows(decision.prose(), decision.SHORT, texts)]
    decide = {models: decision.decider(checkpoint, models) for models in MODELS}
    chosen = {models: [decide[models](query).model for query in asked] for models in MODELS}
    print(json.dumps({"router": router.__file__, "chosen": list(chosen.values())}), flush=True)
    for _line in sys.stdin:
        times = [decision.microseconds(decide[models], asked) for models in MODELS]
        print(json.dumps([statistics.median(taken) for taken in times]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
