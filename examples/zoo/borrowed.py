"""What the zoo takes from the pair beside it: the tokenizer's parts, greedy answers, the optimizer."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "pair"))

import vocabulary as vocabulary
from answering import answers as answers
from muon import Muon as Muon
