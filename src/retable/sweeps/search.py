"""A search: Optuna chooses each trial's values by what the trials before it gave; the launcher trains them.

Nothing is stored of a search but its runs. The same command asks for the same trials in the same order, as the sampler
is seeded, and finds those that are finished; so it goes on where it was stopped, and with a larger number of trials it
adds to them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from retable import checks
from retable.config.compose import Composer
from retable.config.keys import differing, key_of
from retable.config.overrides import override_text
from retable.errors import ConfigError
from retable.experiment.grid import refuse_of_a_sweep
from retable.run import devices, files
from retable.sweeps import results, store
from retable.sweeps.finish import failures
from retable.sweeps.plan import Plan, Run, make_plan
from retable.sweeps.pool import Outcome

SAMPLERS = ("tpe", "random", "qmc")
OLDEST = 4  # version of Optuna, as pyproject.toml has it


def search(
    arguments: Sequence[str],
    launch: Callable[[list[list[str]], int], Any],
    trials: int = 20,
    seed: int = 0,
    sampler: str = "tpe",
    at_once: int | None = None,
) -> tuple[Plan, Outcome]:
    """Train trials one batch after another, and write a table of them.

    Args:
        arguments: overrides; those to be chosen are interval(), range(), choice() or several values.
        launch: trains (the overrides of each trial, the first one's number).
        trials: how many there are to be, those trained before included.
        seed: of the sampler.
        sampler: tpe, random or qmc.
        at_once: trials that are chosen together; None: as many as there are workers.

    Returns:
        The trials as a plan, in their order, and what became of them.

    Raises:
        ConfigError: one line.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("hydra/sweeper=optuna: needs optuna: pip install 'retable[optuna]'") from error
    if int(optuna.__version__.split(".")[0]) < OLDEST:
        raise ConfigError(
            f"hydra/sweeper=optuna: needs optuna {OLDEST}.0 or later, this is {optuna.__version__}: pip install"
            " 'retable[optuna]' (hydra-optuna-sweeper asks for an older one)"
        )
    try:
        checks.integer("hydra.sweeper.trials", trials, 1)
        checks.integer("hydra.sweeper.seed", seed, 0)
        checks.one_of("hydra.sweeper.sampler", sampler, SAMPLERS)
        checks.integer("hydra.sweeper.at_once", 1 if at_once is None else at_once, 1)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    composer = Composer()
    fixed, space = _space(arguments, composer)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chosen = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
    }[sampler]()
    study = optuna.create_study(direction="minimize", sampler=chosen)
    outcome, runs, settings = Outcome(), {}, {}
    while len(study.trials) < trials and not outcome.interrupted:
        settings = settings or make_plan([*fixed, *_first(space)], composer).settings
        count = min(at_once or _workers(settings), trials - len(study.trials))
        asked = [study.ask() for _ in range(count)]
        points = [[*fixed, *(_suggested(trial, override) for override in space)] for trial in asked]
        try:
            launch(points, asked[0].number)
        except KeyboardInterrupt:
            outcome.interrupted = True
        for trial, point in zip(asked, points, strict=True):
            (run,) = make_plan(point, composer).runs
            runs.setdefault(run.directory, run)
            value = _value(run)
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)
            outcome.interrupted |= run.status not in (*files.ENDED, files.BROKEN)
    plan = Plan(list(runs.values()), settings)
    plan.label = f"{plan.runs[0].config['task']['name']}/{'+'.join(o.key_or_group for o in space)}-search"
    _finish(plan, outcome, trials)
    return plan, outcome


def _space(arguments: Sequence[str], composer: Composer) -> tuple[list[str], list[Override]]:
    """What every trial has, and what is chosen for each."""
    fixed, space = [], []
    for text in arguments:
        key = key_of(text)
        if key == "experiment":
            raise ConfigError(f"{text}: hydra/sweeper=optuna chooses values itself; accepted: task= and keys to choose")
        if key == "seeds":
            raise ConfigError(f"{text}: hydra/sweeper=optuna trains one run a trial; accepted: seed=0")
        parsed = composer.parse([text])
        if parsed and parsed[0].is_sweep_override():
            refuse_of_a_sweep(parsed[0])
            space += parsed
        else:
            fixed.append(text)
        if key == "sweep.preview" and parsed[0].value():
            raise ConfigError(f"{text}: hydra/sweeper=optuna does not know its trials before; accepted: false")
    if not space:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to choose; accepted: keys as interval(0.1,0.5), tag(log,interval(1e-4,0.1)),"
            " range(16,129,16), choice(relu,elu)"
        )
    return fixed, space


def _suggested(trial: Any, override: Override) -> str:
    """A value of a key, as an override."""
    key, sweep = override.key_or_group, override.value()
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return override_text(key, suggest(key, sweep.start, sweep.end, log="log" in sweep.tags))
    options = _options(override)
    return override_text(key, options[trial.suggest_categorical(key, list(range(len(options))))])


def _first(space: Sequence[Override]) -> list[str]:
    """Some value of each key."""
    return [
        override_text(o.key_or_group, o.value().start if isinstance(o.value(), IntervalSweep) else _options(o)[0])
        for o in space
    ]


def _options(override: Override) -> list[str]:
    return [str(value) for value in override.sweep_string_iterator()]


def _workers(settings: dict[str, Any]) -> int:
    return settings["workers"] if settings["workers"] != "auto" else max(1, devices.cores() // settings["threads"])


def _value(run: Run) -> float | None:
    """What is to be as low as possible: the final metric, its sign turned where higher is better."""
    metrics = (files.read_result(run.directory) or {}).get("metrics") or {}
    value = (metrics.get("final") or {}).get(metrics.get("best_by"))
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    return -value if metrics["higher_is_better"] else value


def _finish(plan: Plan, outcome: Outcome, trials: int) -> None:
    """The table of the trials, those that failed, and the best one: on screen and on disk."""
    found = results.rows(plan.runs)
    results.write(plan, found)
    console = results.show(plan, found)
    for run, reason in failures(plan, outcome):
        console.out(f"failed: {run.name} · {reason} · log: {run.directory / files.LOG}", highlight=False)
    rated = [(value, run) for run in plan.runs if (value := _value(run)) is not None]
    if rated:
        value, run = min(rated, key=lambda pair: pair[0])
        metrics = (files.read_result(run.directory) or {})["metrics"]
        chosen = [key for key in differing([one.varied for one in plan.runs]) if key in run.varied]
        values = "".join(f"{key}={run.varied[key]} " for key in chosen)
        name = metrics["best_by"]
        console.out(f"best {name} {metrics['final'][name]:.4f}: {values}· {run.directory}", highlight=False)
    if outcome.interrupted:
        console.out("The same command goes on where this one stopped; finished runs are kept.", highlight=False)
    console.out(f"table:       {plan.folder / 'results.md'}", highlight=False)
    done = sum(store.status_of(run.directory) in files.DONE for run in plan.runs)
    console.out(f"trials:      {done} runs done of {trials} trials asked for", highlight=False)
