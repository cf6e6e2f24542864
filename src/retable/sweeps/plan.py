"""From a command line to the runs it asks for, each with its fixed config, its directory and how far it is."""

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.config.compose import Composer, Composition
from retable.config.identity import identity, run_name, same_run, shared_deviations
from retable.config.keys import CHOOSING, is_foreign, is_part_of_a_run, key_of, lookup, own
from retable.config.stepping import by_several
from retable.config.validate import validate
from retable.data.fingerprints import has_changed, recall
from retable.errors import ConfigError, RetableError, in_words
from retable.experiment.grid import expand
from retable.experiment.table import parse_table
from retable.run import devices, files
from retable.run.files import DONE, INTERRUPTED, NEW, RUNNING
from retable.run.result import write_plan
from retable.sweeps.store import Store, other_code, status_of


@dataclass
class Run:
    """One run of a sweep.

    Attributes:
        overrides: what was asked for, e.g. ["task=cifar", "dropout.p=0.3", "seed=0"].
        varied: resolved value by key of what the overrides set.
        status: how far it was when the sweep was planned.
        tables: the experiments of this sweep that ask for it.
        other_code: modules of the user's own that are others now than those that have trained it.
    """

    name: str
    directory: Path
    config: dict[str, Any]
    overrides: list[str]
    varied: dict[str, Any]
    status: str
    tables: list[str] = field(default_factory=list)
    other_code: list[str] = field(default_factory=list)

    @property
    def processes(self) -> int:
        """How many train it together, each on a GPU of its own where there are GPUs (`trainer=ddp`)."""
        trainer = self.config["trainer"]
        return int(trainer.get("devices", 1)) if by_several(trainer) else 1


@dataclass
class Plan:
    """A sweep.

    Attributes:
        runs: in order.
        settings: conf/base.yaml's `sweep`.
        tables: those that it makes, by experiment.
        label: its name.
        unread: configs whose data must be read to tell whether finished runs are of the same; a worker does that.
        lost: directories beside its runs' whose runs can't be identified, each with what is wrong.
    """

    runs: list[Run]
    settings: dict[str, Any]
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    label: str = "sweep"
    composer: Composer | None = None
    lost: dict[Path, str] = field(default_factory=dict)
    unread: list[dict[str, Any]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the sweep's own table goes."""
        return Path(self.settings["dir"]) / "tables" / self.label

    @property
    def about_code(self) -> str:
        """Which runs were trained by code of the user's own that has changed since; empty where there is none."""
        runs = [run for run in self.runs if run.other_code]
        if not runs:
            return ""
        modules = in_words(sorted({name for run in runs for name in run.other_code}))
        many = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        kept = "kept as they are; sweep.retrain_changed=true trains them anew"
        what = "trained anew" if self.settings["retrain_changed"] else kept
        return f"{modules} changed since {many} had been trained or begun: {what}"

    @property
    def pending(self) -> list[Run]:
        """Runs to train: new, interrupted and running elsewhere; failed ones when that is asked for."""
        again = (files.FAILED, files.BROKEN) if self.settings["retry_failed"] else ()
        return [run for run in self.runs if run.status not in (*files.ENDED, files.BROKEN) or run.status in again]


def make_plan(arguments: Sequence[str], composer: Composer | None = None) -> Plan:
    """Plan a sweep; composes and checks every run, reads no data, writes nothing but an index.

    Whether a finished run is of the data that are there now follows from what was noted when they were last read.
    Without such a note it is taken to be; `Plan.unread` says where that is to be looked at.

    Raises:
        ConfigError: one line, for the first run that is refused.
    """
    composer = composer or Composer()
    grid = expand(arguments, composer)
    for name, content in grid.tables.items():
        parse_table(content, name)  # refused now, not when everything is trained
    runs: list[Run] = []
    taken: dict[Path, Run] = {}
    stores: dict[Path, Store] = {}
    settings: dict[str, Any] = {}
    fingerprints: dict[str, str | None] = {}
    unread: dict[str, tuple[dict[str, Any], bool]] = {}
    compositions = [composer.compose(overrides) for overrides in grid.points]
    alike = _alike(compositions, grid.owners)
    asked = {key_of(text) for text in arguments}  # what the command line sets is named in each run's name
    shared = {owner: keys - asked if owner else set() for owner, keys in alike.items()}
    for overrides, owner, composition in zip(grid.points, grid.owners, compositions, strict=True):
        config = composition.config
        settings = settings or config["sweep"]
        trainer = config["trainer"]
        trainer["precision"] = devices.precision(trainer["precision"], trainer["device"])
        try:
            validate(config)
        except ConfigError as error:
            shown = " ".join(text for text in overrides if not text.startswith("experiment="))
            raise ConfigError(f"{error} (in the run: {shown})" if len(grid.points) > 1 else str(error)) from error
        if (count := trainer.get("num_nodes", 1)) > 1:
            raise ConfigError(f"trainer.num_nodes={count}: accepted in a sweep: 1; a run by itself takes several")
        root = Path(config["sweep"]["dir"]) / config["task"]["name"]
        store = stores.setdefault(root, Store(root)) if root not in stores else stores[root]
        flat = identity(config)
        key = repr(sorted(config["data"].items(), key=lambda item: item[0]))
        if is_foreign(config):
            fingerprints[key] = None  # nothing is known of it
        elif key not in fingerprints:
            cache = Path(config["data"]["cache"]).expanduser()
            fingerprints[key] = recall(cache, config["data"])
            if fingerprints[key] is None and store.has_results:
                unread[key] = (config, has_changed(cache, config["data"]))
        # The precision counts as its own default once it is resolved, for runs stored before the key existed.
        defaults = composition.defaults | {"trainer.precision": trainer["precision"]}
        not_new = functools.partial(composer.not_new, wanted=overrides)
        directory = store.find(flat, defaults, fingerprints[key], not_new)
        if directory is None:
            name = run_name(composition, owner, shared[owner], alike[owner])
            directory = store.allocate(name, flat, fingerprints[key], overrides)
        if directory in taken:
            taken[directory].tables += [owner] if owner and owner not in taken[directory].tables else []
            continue
        kept = own(config)
        run = Run(directory.name, directory, kept, overrides, _varied(overrides, config), status_of(directory))
        run.tables += [owner] if owner else []
        if run.status in (*DONE, INTERRUPTED):
            run.other_code = other_code(directory, config)
            if run.other_code and settings["retrain_changed"]:
                run.status = NEW
        taken[directory] = run
        runs.append(run)
    for store in stores.values():
        store.save()
    lost = {directory: reason for store in stores.values() for directory, reason in store.lost.items()}
    plan = Plan(runs, settings, grid.tables, _label(grid.tables, grid.swept, runs), composer, lost)
    # Who cancels runs that have left a grid means the sweep that had them.
    if not plan.tables and plan.runs and not settings["cancel_removed"]:
        plan.label = _own_label(plan)
    plan.unread = [own(config) for config, changed in unread.values() if changed or plan.pending]
    return plan


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs whose networks are built, and whose steps are computed, in the same way.

    They differ in the seed, in rates and in probabilities at most: whether such a value is one that a run can have has
    been checked when the sweep was planned.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        kept = run.config | {"seed": None}
        if optimizer := run.config.get("optimizer"):
            kept["optimizer"] = {key: "a rate" if type(value) is float else value for key, value in optimizer.items()}
        if dropout := run.config.get("dropout"):
            kept["dropout"] = dropout | {"p": bool(dropout["p"])}
        groups.setdefault(json.dumps(kept, sort_keys=True, default=str), []).append(run)
    return list(groups.values())


def write_runs(runs: Sequence[Run]) -> None:
    """Fix the runs' configs on disk, so that editing YAML meanwhile changes no run of this sweep.

    Also those of runs begun before: what is no part of their identity (paths, device, logger) is as asked for now.
    """
    for run in runs:
        known = (run.directory / files.RUN).exists()  # a loss of power may have taken it and left the lease
        if known and run.status == NEW and _is_of_another(run):
            raise RetableError(
                f"{run.directory}: another sweep has begun another run of this name; start this one again"
            )
        if known and (run.status in (*DONE, RUNNING) or status_of(run.directory) != run.status):
            continue  # another sweep has it, or had it since the plan was made
        write_plan(run.directory, run.name, run.config, run.overrides)


def _is_of_another(run: Run) -> bool:
    """Whether a run that another sweep has planned in the directory meanwhile differs from this one in any value."""
    there, mine = files.described(run.directory), identity(run.config)
    if isinstance(there, str):
        return False
    return not same_run({key: value for key, value in there["identity"].items() if key in mine}, mine, mine)


def _alike(compositions: Sequence[Composition], owners: Sequence[str | None]) -> dict[str | None, set[str]]:
    """By experiment, or None, what is set alike for all its runs."""
    runs: dict[str | None, list[Composition]] = {}
    for owner, composition in zip(owners, compositions, strict=True):
        runs.setdefault(owner, []).append(composition)
    return {owner: shared_deviations(found) for owner, found in runs.items()}


def _varied(overrides: Sequence[str], config: dict[str, Any]) -> dict[str, Any]:
    varied = {}
    for text in overrides:
        key = key_of(text)
        if key in CHOOSING:
            continue
        option = text.partition("=")[2]  # of a group: what it holds may stand anywhere in the config
        node = lookup(config, key, option or None)
        varied[key] = option if isinstance(node, dict) else node
    return varied


def _own_label(plan: Plan) -> str:
    """A sweep's name, with a number where a sweep over the same keys that was another lies there: with other settings
    for all its runs, or with runs that this one does not have."""
    from retable.report.sweep_page import noted

    number, label = 1, plan.label
    mine = {os.path.realpath(run.directory) for run in plan.runs}
    while True:
        folder = Path(plan.settings["dir"]) / "tables" / label
        note = noted(folder)
        if note is None:
            return label
        runs = note["runs"]
        same = _fixed([one["settings"] for one in runs]) == _fixed([run.varied for run in plan.runs])
        if same and {os.path.realpath(folder / one["directory"]) for one in runs} <= mine:
            return label
        number += 1
        label = f"{plan.label}-{number}"


def _fixed(settings: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What all runs of a sweep have alike, of what can change a result, as JSON keeps it."""
    first = {key: repr(value) for key, value in settings[0].items() if is_part_of_a_run(key) and key != "seed"}
    return {key: value for key, value in first.items() if all(repr(one.get(key)) == value for one in settings)}


def _label(tables: dict[str, Any], swept: Sequence[str], runs: Sequence[Run]) -> str:
    """Experiments give a sweep their name; without one it is the task and the keys that are swept."""
    if tables:
        if len(tables) == 1:
            return next(iter(tables))
        folders = dict.fromkeys(name.partition("/")[0] for name in tables)
        return f"{'+'.join(folders)}/all" if len(tables) > 3 else "+".join(name.replace("/", "-") for name in tables)
    tasks = "+".join(dict.fromkeys(run.config["task"]["name"] for run in runs))
    keys = "+".join(key.lstrip("+") for key in swept if key not in ("seed", "seeds", "task")) or "run"
    data = "".join("_sample" for run in runs[:1] if run.config["data"].get("source") == "sample")
    return f"{tasks}/{keys.replace('.', '-')}{data}"
