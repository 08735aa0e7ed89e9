"""The caveats of an evaluation, as sentences made from its figures."""

from collections.abc import Iterator, Sequence

from router.learn.evaluate import results
from router.learn.evaluate.costs import ANSWER
from router.learn.evaluate.predict import Predicted

FEW = 1000  #: prompts: below, an APGR's interval is some .1 wide


def caveats(
    predicted: Sequence[Predicted],
    pairs: Sequence[results.Pair],
    many: Sequence[results.Many],
    guessed: Sequence[str],
    gapped: Sequence[str],
    unpaired: Sequence[str] = (),
) -> tuple[str, ...]:
    """`guessed`: tables that do not tell how long their answers are; `gapped`: no prompt of theirs has all answers;
    `unpaired`: no pair of models of theirs is measured, and why."""
    gaps = (f"{name} has no prompt that every model has answered: no figures of all its models." for name in gapped)
    apart = (f"No pair of models is measured of {one}." for one in unpaired)
    return (*_contestants(predicted), *_pairs(predicted, pairs), *apart, *gaps, *_many(predicted, many, guessed))


def _contestants(predicted: Sequence[Predicted]) -> Iterator[str]:
    for one in predicted:
        if one.leaks:
            yield (
                f"Leak: {one.name} was trained on {', '.join(one.leaks)}. Its figures there are not held out, and say "
                "nothing of other prompts."
            )
        elif one.kind == "checkpoint":
            yield (
                f"{one.name} is taken as it is: questions that it was trained on may stand in these tables in other "
                "words, and only its training files are recognised."
            )
        if one.placed:
            yield f"{one.name} has no labels of these models, and places them as a pool would: {', '.join(one.placed)}."


def _pairs(predicted: Sequence[Predicted], pairs: Sequence[results.Pair]) -> Iterator[str]:
    ours = {one.name for one in predicted if one.kind != "baseline"}
    for pair in pairs:
        what = f"{pair.weak} -> {pair.strong} ({pair.table})"
        if pair.prompts < 2:
            yield f"{what} has one prompt: no interval, and no figure that says anything of others."
        elif pair.prompts < FEW:
            yield f"{what} has {pair.prompts} prompts: differences that small tables show are mostly chance."
        silent = ours - {one.router for one in pair.routers}
        if silent:
            yield f"{', '.join(sorted(silent))} did not speak of all prompts of {what}, and is left out there."
        for one in pair.routers:
            if one.router in ours and one.lead_95 is not None and one.lead_95.low <= 0 <= one.lead_95.high:
                yield f"{what}: {one.router} and {pair.against} are not told apart: their difference may be 0."


def _many(predicted: Sequence[Predicted], many: Sequence[results.Many], guessed: Sequence[str]) -> Iterator[str]:
    ours = {one.name for one in predicted if one.kind != "baseline"}
    for table in many:
        for one in table.routers:
            if one.router in ours and one.lead_95.low <= 0 <= one.lead_95.high:
                yield (
                    f"{table.table}, {len(table.models)} models: {one.router} and {table.against} are not told apart: "
                    "their difference may be 0."
                )
        if table.table in guessed:
            yield f"{table.table} does not tell how long its answers are: costs count {ANSWER:.0f} tokens for each."
        if table.single_aiq is None:
            yield (
                f"{table.table} tells no costs that differ by model: no cost curve, AIQ or saving. Costs come from a "
                "column `cost_usd`, or from the answers' lengths and --price."
            )
        yield (
            f"{table.table}: the best single model, {table.best_single}, is chosen by the very scores that are tested, "
            "which favours it."
        )
