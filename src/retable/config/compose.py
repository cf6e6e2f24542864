"""Composition of run configs with Hydra, fast enough for the grids of whole tables.

A config is made of group choices (which files) and of values. Grids vary values far more often than files, so the files
of one set of choices are merged once and the values are set on a copy: about 5 ms a run in place of 130 ms. Where the
values are plain ones at keys that are there, and what other keys take from them is plain, too, the copy is one of plain
containers (retable.config.plain): 0.2 ms. The merging is Hydra's own; this module alone touches Hydra's internals.
"""

import copy
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import omegaconf
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from retable.config import lightning_forms
from retable.config.folders import config_dir, project_folders
from retable.config.instead import plugin, refusal
from retable.config.keys import CHOOSING, LABELLED, PLACES, STEERING, below, flatten, is_equal, key_of, lookup
from retable.config.messages import CONFIG_ERRORS, one_line, suggestion
from retable.config.overrides import override_text, translate
from retable.config.plain import Plain
from retable.errors import ConfigError

# What every run or sweep reads from its config; a model's or loss's own keys have defaults in the code.
_NEEDED = (*STEERING, "seed", "dropout", "trainer", "logger", "augment.mode", "augment.transforms", "task.name")
_NEEDED += ("task.metric", "data.source", "data.root", "data.cache")


def pretrained(weights: str, *, _root_: Any) -> str:
    """`${retable.pretrained:imagenet}`: none on sample data, which are for trying things out without a network."""
    return "none" if OmegaConf.select(_root_, "data.source") == "sample" else weights


# OmegaConf 2.4 has given its registration the name that an older one had, and warns of the one that it has in 2.3.
_NEWER = tuple(map(int, omegaconf.__version__.split(".")[:2])) >= (2, 4)
_register = OmegaConf.register_resolver if _NEWER else OmegaConf.register_new_resolver
_register("retable.pretrained", pretrained, replace=True)


@dataclass(frozen=True)
class Composition:
    """One run's config and what sets it off.

    Attributes:
        config: resolved, plain containers.
        deviations: what differs from the task's defaults: groups by their choice, then keys by their value.
        defaults: flattened resolved config of the task with the same choices and no values set.
    """

    config: dict[str, Any]
    deviations: dict[str, Any]
    defaults: dict[str, Any]


# Keys without a section, which have one value each.
_WHOLE = ("resume", "trust", "seeds", "seed", "output", "table", "tags")
# Groups of which a class of one's own is named on the command line, e.g. model._target_=my.Net.
_BUILT = ("model", "loss")


class _Files(CachingConfigRepository):
    """Files read once. Merging puts the nodes it is given into its result and changes them, so it is given copies."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        return copy.deepcopy(super().load_config(config_path))


class Composer:
    """Composes configs from conf/; files are read once, so later edits change nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or config_dir()
        loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(self.folder)))
        self._loader = loader
        self._repo = _Files(loader.repository)
        self._parser = OverridesParser.create(config_loader=loader)
        self._merged: dict[tuple[str, ...], tuple[bytes, dict[str, Any]]] = {}
        self._references: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._parsed: dict[str, list[Override]] = {}
        self._groups: dict[str, bool] = {}
        self._plain: dict[tuple[str, ...], Plain] = {}

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Overrides in Hydra's grammar, the dropout shorthand translated; hydra.* ones are left out."""
        parsed = []
        for override in translate(overrides):
            if override not in self._parsed:
                try:
                    self._parsed[override] = self._parser.parse_overrides([override])
                except CONFIG_ERRORS as error:
                    raise ConfigError(f"{override}: not in Hydra's override grammar ({one_line(error)})") from error
            parsed += self._parsed[override]
            if not parsed[-1].key_or_group:
                raise ConfigError(f"{override}: names no key; accepted: key=value or group=option")
        return [o for o in parsed if not o.key_or_group.startswith("hydra.") and o.key_or_group != "hydra"]

    def is_group(self, key: str) -> bool:
        """Whether a key names a config group, so that its values are files."""
        group = key.split("@")[0]
        if group not in self._groups:
            self._groups[group] = self._repo.group_exists(group)
        return self._groups[group]

    def options(self, group: str) -> list[str]:
        """The choices of a group, those in its folders too, e.g. cifar/dropout of experiment."""
        folders = self._repo.get_group_options(group, results_filter=ObjectType.GROUP)
        nested = [f"{folder}/{name}" for folder in folders for name in self.options(f"{group}/{folder}")]
        return self._repo.get_group_options(group, results_filter=ObjectType.CONFIG) + nested

    def path(self, group: str, option: str) -> Path | None:
        """The YAML file of a group's option."""
        for folder in (self.folder, *project_folders()):
            if (folder / group / f"{option}.yaml").is_file():
                return folder / group / f"{option}.yaml"
        return None

    def compose(self, overrides: Sequence[str]) -> Composition:
        """The config of one run.

        Raises:
            ConfigError: one line naming the key or group, and what is accepted.
        """
        found = self._compose(overrides)
        lightning_forms.settle(found.config, found.deviations, found.defaults)
        for key, value in found.deviations.items():
            # An option of a group for which the task's file puts nothing.
            if value is not None and found.config.get(key, value) is None:
                task = found.config["task"].get("name")
                raise ConfigError(f"{key}={value}: nothing reads it with task={task}; accepted: not given")
        return found

    def not_new(self, stored: Sequence[str], wanted: Sequence[str]) -> list[str]:
        """What a run of some overrides does without, whatever its age, beside one of others: keys that are left out,
        and the sections for which another option is chosen."""
        left_out = [key_of(text) for text in stored if text.startswith("~")]
        try:
            one, other = self._choices(stored), self._choices(wanted)
        except ConfigError:  # of an option that is there no more nothing is known
            return left_out
        groups = [group for group in one.keys() | other.keys() if one.get(group) != other.get(group)]
        return left_out + [group.rpartition("@")[2].replace("/", ".") for group in groups]

    def _choices(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The option of each group, but for what no result depends on."""
        files = [o for o in self.parse(overrides) if self.is_group(o.key_or_group) and not isinstance(o.value(), dict)]
        chosen = self._merge(tuple(str(o.input_line) for o in files))[1]
        return {g: "default" if (g, c) in PLACES else c for g, c in chosen.items() if g not in CHOOSING}

    def _compose(self, overrides: Sequence[str]) -> Composition:
        parsed, missing = self.parse(overrides), object()
        for override in parsed:
            if override.is_sweep_override():
                raise ConfigError(
                    f"{override.input_line}: several values are a sweep; accepted: one, or start it with -m"
                )
        files = [o for o in parsed if self.is_group(o.key_or_group) and not isinstance(o.value(), dict)]
        values = [o for o in parsed if o not in files]
        key = tuple(str(o.input_line) for o in files)
        if key not in self._merged:
            for override in files:
                self._check_choice(override)
        merged, choices = self._merge(key)
        _refuse_names(values)
        if (plain := self._plainly(key, values)) is not None:
            return plain
        raw = pickle.loads(merged)
        for override in values:
            if override.is_add() or override.is_force_add():
                _check_added(override, raw)
        before = {section: raw[section].get("_target_") for section in _BUILT if raw.get(section) is not None}
        try:
            for key in lightning_forms.FORMS.keys() & {o.key_or_group for o in values if isinstance(o.value(), dict)}:
                OmegaConf.update(raw, key, None)  # a mapping stands in place of a file's, of which it is no part
            ConfigLoaderImpl._apply_overrides_to_config(values, raw)
            given = {k: v for o in values if not o.is_delete() for k, v in flatten(o.value(), o.key_or_group).items()}
            retargeted = [s for s, t in before.items() if given.get(f"{s}._target_", t) != t]
            for section in retargeted:
                _leave_out_the_options(raw[section], section, given)
            config = OmegaConf.to_container(raw, resolve=True)
        except CONFIG_ERRORS as error:
            raise ConfigError(one_line(error, raw)) from error
        assert isinstance(config, dict)
        unresolved, defaults, deviations = self._reference(choices)
        resolved = flatten(config)
        for key in defaults:
            parent = key.rpartition(".")[0]  # may be replaced as a whole, e.g. a mapping by null
            replaced = parent in lightning_forms.FORMS or not isinstance(lookup(config, parent, {}), dict)
            if below(key, _NEEDED) and lookup(config, key, missing) is missing and not replaced:
                raise ConfigError(f"~{key}: cannot be left out; accepted: {key}=<value>")
        for key in _differences(OmegaConf.to_container(raw), unresolved):
            if key not in defaults or not is_equal(key, resolved[key], defaults[key]):
                deviations[key] = resolved[key]
        for section in retargeted:
            deviations.pop(f"{section}.name", None)  # the class says it
        return Composition(config, deviations, dict(defaults))

    def _plainly(self, key: tuple[str, ...], values: Sequence[Override]) -> Composition | None:
        """The composition by way of plain containers; None where the values need more than that."""
        if any(value.key_or_group.endswith("._target_") for value in values):
            return None  # a class of one's own takes keys of its own
        if key not in self._plain or self._plain[key].is_out_of_date:
            merged, choices = self._merge(key)
            unresolved, defaults, deviations = self._reference(choices)
            try:
                self._plain[key] = Plain(pickle.loads(merged), unresolved, defaults, deviations, _NEEDED)
            except CONFIG_ERRORS:
                return None  # it takes a value to resolve it
        found = self._plain[key].compose(values)
        return None if found is None else Composition(*found, dict(self._plain[key].defaults))

    def _check_choice(self, override: Override) -> None:
        group, text = override.key_or_group, override.input_line
        options = self.options(group)
        if override.is_delete():
            raise ConfigError(
                f"{text}: a group cannot be left out; accepted: {group}= with one of {', '.join(options)}"
            )
        if override.is_add() or override.is_force_add():
            raise ConfigError(f"{text}: the group is there already; accepted: {text.lstrip('+')}")
        value = override.value()
        for option in value if isinstance(value, list) else [value]:
            if option not in options:
                hint = suggestion(str(option), options)
                raise ConfigError(f"{text}: no such option{hint} accepted: {', '.join(options)}{plugin(text)}")
            self._check_hidden(text, group, str(option))

    def _check_hidden(self, text: str, group: str, option: str) -> None:
        """Raises: ConfigError where a project's own file of this option would never be read."""
        read, *hidden = [
            file
            for folder in (self.folder, *project_folders())
            if (file := folder / group / f"{option}.yaml").is_file()
        ] or [None]
        for file in hidden:
            if read and read.is_relative_to(self.folder) and file.read_bytes() != read.read_bytes():
                raise ConfigError(
                    f"{text}: {os.path.relpath(file)} would not be read, since the package has an option of that name;"
                    " accepted: another name for the file"
                )

    def _reference(self, choices: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The task's defaults under the same choices, flat, unresolved and resolved; and the choices not its own."""
        task = choices["task"]
        _, own = self._merge((f"task={task}",))
        own_groups = {g: c for g, c in choices.items() if g not in CHOOSING and c is not None and (g, c) not in PLACES}
        changed = {group: choice for group, choice in own_groups.items() if own.get(group) != choice}
        files = (f"task={task}", *(override_text(group, choice) for group, choice in changed.items()))
        if files not in self._references:
            reference = pickle.loads(self._merge(files)[0])
            plain, resolved = (OmegaConf.to_container(reference, resolve=resolve) for resolve in (False, True))
            self._references[files] = flatten(plain), flatten(resolved)
        return *self._references[files], changed

    def _defaults_list(self, files: tuple[str, ...]) -> Any:
        chosen = self._parser.parse_overrides(list(files))
        given = {"repo": self._repo, "config_name": "base", "overrides_list": chosen, "skip_missing": False}
        try:
            return create_defaults_list(prepend_hydra=False, **given)
        except ConfigCompositionException:  # of a file, maybe, that overrides one of Hydra's groups: half as fast
            return create_defaults_list(prepend_hydra=True, **given)

    def _merge(self, files: tuple[str, ...]) -> tuple[bytes, dict[str, Any]]:
        """The merged files, pickled, because reading that is nine times as fast as copying; and the choices made."""
        if files not in self._merged:
            try:
                defaults = self._defaults_list(files)
                cfg = self._loader._compose_config_from_defaults_list(defaults=defaults.defaults, repo=self._repo)
            except (*CONFIG_ERRORS, ValueError) as error:
                raise ConfigError(one_line(error)) from error
            cfg.pop("hydra", None)  # Hydra's own keys, of a file of the user's: no part of a run
            OmegaConf.set_struct(cfg, True)
            known = defaults.overrides.known_choices.items()
            choices = {group: choice for group, choice in known if not group.startswith("hydra/")}
            several = {g: tuple(c) for g, c in defaults.overrides.override_choices.items() if isinstance(c, list)}
            self._merged[files] = pickle.dumps(cfg), choices | several
        return self._merged[files]


def _refuse_names(values: Sequence[Override]) -> None:
    """Raises: ConfigError for an option's name without its class: `optimizer.name=adam` would train with another."""
    keys = {override.key_or_group for override in values}
    for override in values:
        section, _, inner = override.key_or_group.partition(".")
        if section in LABELLED and inner == "name" and f"{section}._target_" not in keys and not override.is_delete():
            raise ConfigError(f"{override.input_line}: names what is chosen otherwise; accepted: {section}=<option>")


def _check_added(override: Override, raw: Any) -> None:
    """Raises: ConfigError for an added key that nothing reads, whatever the run is."""
    section, _, inner = override.key_or_group.partition(".")
    if section not in raw:
        if (refused := refusal(override.key_or_group)) is not None:
            raise ConfigError(refused)
        raise ConfigError(f"{override.input_line}: nothing reads {section}; accepted: {', '.join(map(str, raw))}")
    if inner and section in _WHOLE:
        raise ConfigError(f"{override.input_line}: nothing reads {override.key_or_group}; accepted: {section}=<value>")
    if inner and section == "preset" and inner not in flatten(OmegaConf.to_container(raw[section])):
        raise ConfigError(
            f"{override.input_line}: nothing reads it; accepted: keys of the groups, e.g. optimizer.lr=0.1"
        )


def _leave_out_the_options(node: Any, section: str, given: Mapping[str, Any]) -> None:
    """Take an option's keys from a section whose class was named by `<section>._target_`; keep those given with it.

    The class has defaults of its own; the keys in the option's file are those of another class.
    """
    OmegaConf.set_struct(node, False)
    for key in [str(key) for key in node]:
        if not any(below(name, [f"{section}.{key}"]) for name in given):
            del node[key]
    node.setdefault("name", str(node["_target_"]).rpartition(".")[2])


def _differences(raw: Any, old: dict[str, Any]) -> list[str]:
    """Keys whose unresolved values differ: what follows another key by interpolation is no deviation of its own."""
    missing = object()
    return [key for key, value in flatten(raw).items() if not is_equal(key, old.get(key, missing), value)]
