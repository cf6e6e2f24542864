"""A verdict on every claim of a table, from its runs: on the means over seeds, and in how many seeds it holds.

Only seeds that every cell of a claim has are judged, so that the same seeds stand on both sides. A cell without runs,
or with a run of those seeds that failed, diverged or has not ended, makes the claim undecided and is named: to average
what is left would judge the survivors.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product

from retable.experiment.claims import Check, Claim, Operand
from retable.experiment.kinds import JUDGES, Bench
from retable.experiment.table import Table
from retable.experiment.values import NotThere, PublishedWorld, RunsWorld, World
from retable.report.runs import Assigned, RunRecord, group
from retable.report.scale import SAMPLE, alike, describe, scale_of

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOT_JUDGED, NOT_COMPARABLE = "not judged", "not comparable"


@dataclass(frozen=True)
class Verdict:
    """One claim's outcome.

    verdict: holds, does not hold, undecided, not judged (sample data), not comparable (a threshold at reduced scale).
    numbers: what was compared, on the means; held of judged: in how many seeds it holds.
    scale_note: empty at the published scale, else what was reduced. reasons: why it is undecided, or what was left out.
    published: what the claim is worth on the published figures themselves.
    """

    id: str
    text: str
    verdict: str
    numbers: str = ""
    held: int = 0
    judged: int = 0
    scale_note: str = ""
    reasons: tuple[str, ...] = ()
    published: str = UNDECIDED

    @property
    def line(self) -> str:
        """E.g. `holds at this scale (3 of 100 epochs), in 2 of 3 seeds: relu 50.88 > tanh 47.37`."""
        said = self.verdict
        if self.verdict in (HOLDS, FAILS, NOT_COMPARABLE, NOT_JUDGED) and self.scale_note:
            said += f" at this scale ({self.scale_note})" if self.verdict in (HOLDS, FAILS) else f" ({self.scale_note})"
        if self.judged:
            said += f", holds in {self.held} of {self.judged} seed{'s' if self.judged > 1 else ''}"
        details = "; ".join(part for part in (self.numbers, *self.reasons) if part)
        return f"{said}: {details}" if details else said


def judge(table: Table, runs: Assigned) -> list[Verdict]:
    """The verdict on each of the table's claims, in its order."""
    published = judge_published(table)
    groups = group(runs.others)
    return [
        replace(judge_claim(table, claim, runs.cells, groups), published=said.verdict)
        for claim, said in zip(table.claims, published, strict=True)
    ]


def judge_published(table: Table) -> list[Verdict]:
    """What each claim is worth on the published figures: some reports contradict their own tables."""
    found = []
    for claim in table.claims:
        if claim.all_runs:
            verdict, numbers, reasons = UNDECIDED, "", ("the figures of all runs were not published",)
        else:
            verdict, numbers, reasons = settle_published(table, claim)
        found.append(Verdict(claim.id, claim.text, verdict, numbers, reasons=reasons, published=verdict))
    return found


def settle_published(table: Table, claim: Claim) -> tuple[str, str, tuple[str, ...]]:
    """As `settle`. Where ranges were published, it must come out the same at all of their ends."""
    ranges = {
        (cell, metric): (figure.low, figure.high)
        for cell in claim.cells
        for metric, figure in table.cells[cell].published.items()
        if figure.low is not None and figure.high is not None
    }
    worlds = [PublishedWorld(table, dict(zip(ranges, ends, strict=True))) for ends in product(*ranges.values())]
    outcomes = [settle(table, claim, claim.checks, world) for world in worlds]
    if len({verdict for verdict, _, _ in outcomes}) > 1:
        return UNDECIDED, "", ("the published ranges leave it open",)
    return outcomes[0]


def judge_claim(
    table: Table,
    claim: Claim,
    cells: Mapping[str, Sequence[RunRecord]],
    others: Mapping[str, Sequence[RunRecord]] | None = None,
) -> Verdict:
    """Args: cells: records by cell; others: records by setting, for claims over all runs."""
    used = {name: list(cells.get(name, ())) for name in claim.cells}
    checks = claim.checks
    if claim.all_runs:
        named = {name if name not in used else f"{name} (other)": list(found) for name, found in (others or {}).items()}
        checks = tuple(widen(check, list(named)) for check in checks)
        used.update(named)
    # A run outside the table's cells has no published number of epochs of its own; the table's stands in.
    published = {name: (cell.epochs, cell.fraction) for name, cell in table.cells.items()}
    seeds = shared_seeds(used)
    relevant = {name: [run for run in found if run.seed in seeds] for name, found in used.items()}
    scales = [
        scale_of(run, *published.get(name, (table.published_epochs, 1.0)))
        for name, found in relevant.items()
        for run in found
    ]
    note = describe(scales)
    base = Verdict(claim.id, claim.text, UNDECIDED, scale_note=note)
    if any(run.source == "sample" for found in used.values() for run in found):
        # Nothing is claimed of a publication's data; how it comes out on these data is still worth knowing.
        outcome = "" if missing(used, relevant, seeds) else settle(table, claim, checks, RunsWorld(table, relevant))
        numbers = f"here it {'is ' if outcome[0] == UNDECIDED else ''}{outcome[0]}: {outcome[1]}" if outcome else ""
        return replace(base, verdict=NOT_JUDGED, scale_note=SAMPLE, numbers=numbers.removesuffix(": "))
    left_out = sorted({run.seed for found in used.values() for run in found} - seeds)
    notes = (f"seed {', '.join(map(str, left_out))} left out: not in every cell",) if left_out and seeds else ()
    faults = missing(used, relevant, seeds)
    if not faults and not alike(scales):
        faults = [f"runs of different scale: {describe(scales)}"]
    held, judged = count_seeds(table, claim, checks, relevant, seeds)
    if faults:
        return replace(base, held=held, judged=judged, reasons=(*faults, *notes))
    verdict, numbers, reasons = settle(table, claim, checks, RunsWorld(table, relevant))
    if claim.absolute and any(scale.reduced for scale in scales):
        return replace(base, verdict=NOT_COMPARABLE, numbers=numbers, reasons=(*reasons, *notes))
    return replace(base, verdict=verdict, numbers=numbers, held=held, judged=judged, reasons=(*reasons, *notes))


def settle(table: Table, claim: Claim, checks: Sequence[Check], world: World) -> tuple[str, str, tuple[str, ...]]:
    """(verdict, numbers, reasons): a claim holds if all its statements do, and fails if one fails."""
    metrics = {operand.metric for check in checks for operand in check.operands if operand.metric}
    bench = Bench(world, table.metrics, name_metric=len(metrics) > 1)
    outcomes, numbers, reasons = [], [], []
    for check in checks:
        try:
            holds, text = JUDGES[check.kind](check, bench)
        except NotThere as error:
            reasons.append(str(error))
            continue
        outcomes.append(holds)
        numbers.append(text if holds or len(checks) == 1 else f"{text} (does not hold)")
    if beside := said_beside(claim, bench):
        numbers.append(f"beside it: {', '.join(beside)}")
    verdict = FAILS if not all(outcomes) else UNDECIDED if reasons else HOLDS
    return verdict, "; ".join(numbers), tuple(dict.fromkeys(reasons))


def said_beside(claim: Claim, bench: Bench) -> list[str]:
    """The numbers of the statements beside a claim, those that can be said."""
    said = []
    for check in claim.beside:
        with suppress(NotThere):
            said.append(JUDGES[check.kind](check, bench)[1])
    return said


def widen(check: Check, names: Sequence[str]) -> Check:
    """An `all runs` check with an operand for each other setting that was run."""
    if not check.all_runs:
        return check
    like = check.operands[0]
    more = tuple(Operand(label=name, cells=(name,), metric=like.metric, at=like.at, over=like.over) for name in names)
    return replace(check, operands=check.operands + more)


def shared_seeds(used: Mapping[str, Sequence[RunRecord]]) -> set[int]:
    """Seeds that every cell with runs has."""
    found = [{run.seed for run in records} for records in used.values() if records]
    return set.intersection(*found) if found else set()


def missing(
    used: Mapping[str, Sequence[RunRecord]], relevant: Mapping[str, Sequence[RunRecord]], seeds: set[int]
) -> list[str]:
    """What keeps a claim undecided, each cell named."""
    faults = [f"{name}: missing" for name, found in used.items() if not found]
    if not seeds and len(faults) < len(used):
        faults.append(f"no seed that all of {', '.join(name for name, found in used.items() if found)} have")
    for name, found in relevant.items():
        faults += [f"{name}: seed {run.seed} {run.status}" for run in found if run.status != "finished"]
        by_seed = [run.seed for run in found]
        faults += [
            f"{name}: {by_seed.count(seed)} runs of seed {seed}" for seed in sorted(seeds) if by_seed.count(seed) > 1
        ]
    return faults


def count_seeds(
    table: Table,
    claim: Claim,
    checks: Sequence[Check],
    relevant: Mapping[str, Sequence[RunRecord]],
    seeds: set[int],
) -> tuple[int, int]:
    """(held, judged): seeds in which the claim holds, of those in which every cell has finished and it can be said."""
    held = judged = 0
    for seed in sorted(seeds):
        runs = {name: [run for run in found if run.seed == seed] for name, found in relevant.items()}
        if any(len(found) != 1 or found[0].status != "finished" for found in runs.values()):
            continue
        verdict, _, _ = settle(table, claim, checks, RunsWorld(table, runs))
        held += verdict == HOLDS
        judged += verdict != UNDECIDED
    return held, judged
