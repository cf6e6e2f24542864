"""A verdict on every claim of a table, from its runs: on the means over seeds, and in how many seeds it holds.

Only seeds that every cell of a claim has are used, so that the same seeds stand on both sides; where a run has no seed,
all runs are, and nothing is paired (`unpaired`). A cell without runs, or with a run of those that failed, diverged or
has not ended, makes the claim undecided and is named: an average of the other runs would compare the survivors alone.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from retable.experiment.claims import Claim
from retable.experiment.metrics import DECIMALS, Metric, NotThere
from retable.experiment.operands import World
from retable.experiment.statement import Evidence, Statement
from retable.experiment.table import Table
from retable.report.intervals import Interval, finite, holm, interval, interval_text
from retable.report.predicted import predicted_spread
from retable.report.resolution import Resolution, resolve
from retable.report.runs import Assigned, RunRecord, group
from retable.report.scale import SAMPLE, alike, describe, scale_of
from retable.report.settings import Differing, differing
from retable.report.unpaired import difference_of, resolve_unpaired, seeded
from retable.report.worlds import PublishedWorld, RunsWorld, of_seed
from retable.run.files import FINISHED

MOST_RANGES = 12  # of a claim that is held against published ranges: each doubles what is tried
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOT_EVALUATED, NOT_COMPARABLE = "not judged", "not comparable"
MISSING = ": missing"  # of a cell without runs


@dataclass(frozen=True)
class Verdict:
    """One claim's outcome.

    verdict: holds, does not hold, undecided, not judged (sample data), not comparable (a threshold at reduced scale).
    numbers: what was compared, on the means; held: in how many of the seeds it holds.
    scale_note: empty at the published scale, else what was reduced. reasons: why it is undecided, or what was left out.
    published: the verdict on the published values themselves.
    intervals: one a statement that sets one value of runs over another, where the claim is evaluated. A choice of many
    (`best`) has none: its runner-up is picked after the fact. resolution: how certain it is that it holds, or does not.
    differs: in which settings the cells that it compares do. under: under which assumptions it holds.
    """

    id: str
    text: str
    verdict: str
    numbers: str = ""
    held: int = 0
    seeds: int = 0
    scale_note: str = ""
    reasons: tuple[str, ...] = ()
    published: str = UNDECIDED
    intervals: tuple[Interval, ...] = ()
    resolution: Resolution | None = None
    differs: Differing = field(default_factory=Differing)
    under: str = ""

    @property
    def certainty(self) -> str:
        """E.g. `not resolved at 3 seeds (holds in 2 of 3; about 12 would decide)`."""
        if self.resolution is None:
            return f"holds in {self.held} of {self.seeds} seed{'s' if self.seeds > 1 else ''}" if self.seeds else ""
        split = 0 < self.held < self.seeds or (self.verdict == HOLDS) != (self.held == self.seeds)
        notes = [f"holds in {self.held} of {self.seeds}"] if split and self.seeds else []
        notes += [self.resolution.more] if self.resolution.more else []
        return self.resolution.text + (f" ({'; '.join(notes)})" if notes else "")

    def evidence(self, metrics: Mapping[str, Metric]) -> list[str]:
        """The differences that the verdict rests on with their intervals, and where a page tests several claims, p."""
        shown = [f"{one.label} {interval_text(one, metrics[one.metric])}" for one in self.intervals]
        found = self.resolution
        if found and found.deciding and not shown:
            shown.append(
                f"least sure: {found.deciding.label} {interval_text(found.deciding, metrics[found.deciding.metric])}"
            )
        shown += [found.test] if found and found.holm is not None else []
        return shown + ([f"differ in {self.differs.text}"] if self.differs.text else [])

    @property
    def line(self) -> str:
        """E.g. `holds at this scale (3 of 100 epochs), resolved at 5 seeds: relu 50.88 > tanh 47.37`."""
        text = self.verdict
        if self.verdict in (HOLDS, FAILS, NOT_COMPARABLE, NOT_EVALUATED) and self.scale_note:
            text += f" at this scale ({self.scale_note})" if self.verdict in (HOLDS, FAILS) else f" ({self.scale_note})"
        text += f", {self.certainty}" if self.certainty else ""
        confounded = ", ".join(self.differs.confounded)
        more = f"confounded: the cells differ in {confounded}, too" if confounded else ""
        details = "; ".join(part for part in (self.numbers, *self.reasons, more, self.under) if part)
        return f"{text}: {details}" if details else text


def evaluate_claims(table: Table, runs: Assigned) -> list[Verdict]:
    """The verdict on each of the table's claims, in its order."""
    published = evaluate_published(table)
    groups = group(runs.others)
    return corrected(
        [
            replace(evaluate_claim(table, claim, runs.cells, groups), published=reference.verdict)
            for claim, reference in zip(table.claims, published, strict=True)
        ]
    )


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with the p values that Holm's method gives, where several claims of a page have one."""
    tested = {
        place: verdict.resolution
        for place, verdict in enumerate(verdicts)
        if verdict.resolution and verdict.resolution.p is not None
    }
    values = holm([one.p for one in tested.values() if one.p is not None]) if len(tested) > 1 else []
    found = list(verdicts)
    for (place, one), value in zip(tested.items(), values, strict=False):
        found[place] = replace(found[place], resolution=replace(one, holm=value))
    return found


def evaluate_published(table: Table) -> list[Verdict]:
    """The verdict on each claim from the published values: some reports contradict their own tables."""
    found = []
    for claim in table.claims:
        if claim.all_runs:
            verdict, numbers, reasons = UNDECIDED, "", ("the figures of all runs were not published",)
        else:
            verdict, numbers, reasons = settle_published(table, claim)
        found.append(Verdict(claim.id, claim.text, verdict, numbers, reasons=reasons, published=verdict))
    return found


def settle_published(table: Table, claim: Claim) -> tuple[str, str, tuple[str, ...]]:
    """As `settle`. Where ranges were published, it must come out the same at all of their ends, and fail at all of them
    by one and the same difference: within a range may lie what neither end is."""
    ranges = {
        (cell, metric): (value.low, value.high)
        for cell in claim.cells
        for metric, value in table.cells[cell].published.items()
        if value.low is not None and value.high is not None
    }
    if len(ranges) > MOST_RANGES:
        return UNDECIDED, "", (f"{len(ranges)} published ranges have too many ends to try",)
    worlds = [PublishedWorld(table, dict(zip(ranges, ends, strict=True))) for ends in product(*ranges.values())]
    outcomes = [settle(table, claim.statements, world, claim.beside) for world in worlds]
    verdicts = {verdict for verdict, _, _ in outcomes}
    if len(verdicts) > 1 or (ranges and verdicts == {FAILS} and not fails_throughout(table, claim, worlds)):
        return UNDECIDED, "", ("the published ranges leave it open",)
    return outcomes[0]


def fails_throughout(table: Table, claim: Claim, worlds: Sequence[World]) -> bool:
    """Whether one of the differences that a claim rests on is against it in all of some worlds."""
    for statement in claim.statements:
        with contextlib.suppress(NotThere):
            for one in statement.comparisons(Evidence(worlds[0], table.metrics)) or ():
                with contextlib.suppress(NotThere):
                    if all(one.fails(round(one.margin(world), DECIMALS)) for world in worlds):
                        return True
    return False


@dataclass(frozen=True)
class Case:
    """What a claim is decided on. runs: by cell, of the seeds alone that every cell has. seeds: these; None where runs
    pair with no others."""

    table: Table
    statements: tuple[Statement, ...]
    runs: Mapping[str, Sequence[RunRecord]]
    seeds: tuple[int, ...] | None

    @property
    def world(self) -> RunsWorld:
        return RunsWorld(self.table, self.runs)

    @functools.cached_property
    def worlds(self) -> dict[int, RunsWorld]:
        """Of each seed alone."""
        return {seed: RunsWorld(self.table, of_seed(self.runs, seed)) for seed in self.seeds or ()}


def evaluate_claim(
    table: Table, claim: Claim, cells: Mapping[str, Sequence[RunRecord]], others: Mapping[str, Sequence[RunRecord]]
) -> Verdict:
    """The verdict on one claim. Args: cells: records by cell; others: by setting, for claims over all runs."""
    used = {name: list(cells.get(name, ())) for name in claim.cells}
    statements = claim.statements
    if claim.all_runs:
        named = {name if name not in used else f"{name} (other)": list(found) for name, found in others.items()}
        statements = tuple(statement.widen(list(named)) for statement in statements)
        used.update(named)
    # A run outside the table's cells has no published number of epochs of its own; the table's stands in.
    published = {name: (cell.epochs, cell.fraction) for name, cell in table.cells.items()}
    paired = seeded(used)
    seeds = shared_seeds(used) if paired else {run.seed for found in used.values() for run in found}
    relevant = {name: [run for run in found if run.seed in seeds] for name, found in used.items()}
    case = Case(table, statements, relevant, tuple(sorted(seeds)) if paired else None)
    scales = [
        scale_of(run, *published.get(name, (table.published_epochs, 1.0)))
        for name, found in relevant.items()
        for run in found
    ]
    base = Verdict(claim.id, claim.text, UNDECIDED, scale_note=describe(scales))
    faults = missing(used, relevant, seeds)
    if any(run.source == "sample" for found in used.values() for run in found):
        # Nothing is claimed of a publication's data; how it comes out on these data may be of interest all the same.
        outcome = "" if faults else settle(table, statements, case.world, claim.beside)
        numbers = f"here it {'is ' if outcome[0] == UNDECIDED else ''}{outcome[0]}: {outcome[1]}" if outcome else ""
        return replace(base, verdict=NOT_EVALUATED, scale_note=SAMPLE, numbers=numbers.removesuffix(": "))
    left_out = sorted({run.seed for found in used.values() for run in found} - seeds)
    notes = (f"seed {', '.join(map(str, left_out))} left out: not in every cell",) if left_out and seeds else ()
    if not faults and not alike(scales):
        faults = [f"runs of different scale: {describe(scales)}"]
    held, counted = count_seeds(case)
    if faults:
        return replace(base, held=held, seeds=counted, reasons=(*faults, *notes))
    verdict, numbers, reasons = settle(table, statements, case.world, claim.beside)
    if claim.absolute and any(scale.reduced for scale in scales):
        return replace(base, verdict=NOT_COMPARABLE, numbers=numbers, reasons=(*reasons, *notes))
    found = replace(base, verdict=verdict, numbers=numbers, held=held, seeds=counted, reasons=(*reasons, *notes))
    if verdict not in (HOLDS, FAILS):
        return found
    differs = differing(table, [relevant[name] for name in claim.cells])
    return replace(found, differs=differs, intervals=differences(case), resolution=resolution_of(case, verdict))


def resolution_of(case: Case, verdict: str) -> Resolution | None:
    """How certain a verdict is; None where a statement rests on nothing that can be compared over seeds."""
    evidence = Evidence(case.world, case.table.metrics)
    comparisons = []
    for statement in case.statements:
        try:
            own = statement.comparisons(evidence)
        except NotThere:  # one of several statements of a claim that does not hold all the same
            continue
        if own is None:
            return None
        comparisons += own
    if case.seeds is None:
        return resolve_unpaired(verdict == HOLDS, comparisons, case.world)
    metrics = case.table.metrics
    return resolve(verdict == HOLDS, comparisons, case.worlds, lambda one: predicted_spread(one, case.runs, metrics))


def differences(case: Case) -> tuple[Interval, ...]:
    """The interval of each statement that sets one value of runs over another."""
    found = []
    for statement in case.statements:
        if statement.difference and all(operand.constant is None for operand in statement.operands):
            high, low = statement.difference
            label = f"{high.label} - {low.label}"
            if case.seeds is not None:
                values = finite(lambda world, high=high, low=low: high.value(world) - low.value(world), case.worlds)
                found.append(interval(label, high.metric, values))
            elif unpaired := difference_of(label, high.metric, high, low, case.world):
                found.append(unpaired)
    return tuple(found)


def settle(
    table: Table, statements: Sequence[Statement], world: World, beside: Sequence[Statement] = ()
) -> tuple[str, str, tuple[str, ...]]:
    """(verdict, numbers, reasons): a claim holds if all its statements do, and fails if one fails.

    Args:
        beside: statements whose numbers are given where they exist, and which decide nothing.
    """
    metrics = {
        operand.metric for statement in (*statements, *beside) for operand in statement.operands if operand.metric
    }
    evidence = Evidence(world, table.metrics, name_metric=len(metrics) > 1)
    outcomes, numbers, reasons = [], [], []
    for statement in statements:
        try:
            holds, text = statement.holds(evidence)
        except NotThere as error:
            reasons.append(str(error))
            continue
        outcomes.append(holds)
        numbers.append(text if holds or len(statements) == 1 else f"{text} (does not hold)")
    texts = []
    for statement in beside:
        with contextlib.suppress(NotThere):
            texts.append(statement.holds(evidence)[1])
    if texts:
        numbers.append(f"beside it: {', '.join(texts)}")
    verdict = FAILS if not all(outcomes) else UNDECIDED if reasons else HOLDS
    return verdict, "; ".join(numbers), tuple(dict.fromkeys(reasons))


def shared_seeds(used: Mapping[str, Sequence[RunRecord]]) -> set[int]:
    """Seeds that every cell with runs has."""
    found = [{run.seed for run in records} for records in used.values() if records]
    return set.intersection(*found) if found else set()


def missing(
    used: Mapping[str, Sequence[RunRecord]], relevant: Mapping[str, Sequence[RunRecord]], seeds: set[int]
) -> list[str]:
    """What keeps a claim undecided, each cell named."""
    faults = [f"{name}{MISSING}" for name, found in used.items() if not found]
    if not seeds and len(faults) < len(used):
        faults.append(f"no seed that all of {', '.join(name for name, found in used.items() if found)} have")
    for name, found in relevant.items():
        for status in dict.fromkeys(run.status for run in found if run.status != FINISHED):
            ended = sorted(run.seed for run in found if run.status == status)
            if not all(run.seeded for run in found):
                faults.append(f"{name}: {len(ended)} of {len(found)} runs {status}")
                continue
            faults.append(f"{name}: seed{'s' if len(ended) > 1 else ''} {', '.join(map(str, ended))} {status}")
        by_seed = [run.seed for run in found]
        faults += [
            f"{name}: {by_seed.count(seed)} runs of seed {seed}" for seed in sorted(seeds) if by_seed.count(seed) > 1
        ]
    return faults


def count_seeds(case: Case) -> tuple[int, int]:
    """(held, counted): seeds in which the claim holds, of those in which every cell has finished and it is decided."""
    held = counted = 0
    for world in case.worlds.values():
        if any(len(found) != 1 or found[0].status != FINISHED for found in world.runs.values()):
            continue
        verdict, _, _ = settle(case.table, case.statements, world)
        held += verdict == HOLDS
        counted += verdict != UNDECIDED
    return held, counted
