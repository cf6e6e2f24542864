"""A composed config as plain containers, on which plain values are set without OmegaConf: 0.2 ms in place of 5.

What other keys take from a value by a plain link (`${optimizer.lr}`) follows it; where there is more to it, the caller
composes in the ordinary way (retable.config.compose).
"""

import os
import pickle
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from retable.config.keys import below, flatten, is_equal, lookup

_SCALAR = (int, float, str, bool, type(None))
_LINK = re.compile(r"\$\{(?:oc\.select:)?([A-Za-z_][\w.]*)(?:,[^${}]*)?\}")
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+)(?:,[^${}]*)?\}")


class Plain:
    """The merged files of one set of choices, resolved once, to set plain values on.

    Args:
        raw: the merged files.
        reference: the task's defaults under the same choices, flat, unresolved.
        defaults: the same, resolved.
        choices: deviations that the choices are, by group.
        needed: dotted keys that every run or sweep reads; they must all be there.
    """

    def __init__(
        self,
        raw: Any,
        reference: dict[str, Any],
        defaults: dict[str, Any],
        choices: dict[str, Any],
        needed: Sequence[str],
    ) -> None:
        flat = flatten(OmegaConf.to_container(raw))
        config = OmegaConf.to_container(raw, resolve=True)
        resolved, missing = flatten(config), object()
        self._flat, self._reference, self.defaults, self._choices = flat, reference, defaults, choices
        self._config = pickle.dumps(config)
        self._place = {key: place for place, key in enumerate(flat)}
        changed = [key for key, value in flat.items() if not is_equal(key, reference.get(key, missing), value)]
        differs = [key for key in changed if not is_equal(key, defaults.get(key, missing), resolved[key])]
        self._differs = {key: resolved[key] for key in differs}
        texts = {key: text for key, text in flat.items() if "${" in str(text)}
        names = {name for text in texts.values() for name in _VARIABLE.findall(str(text))}
        self._variables = {name: os.environ.get(name) for name in names}
        links = {key: link for key, text in texts.items() if (link := _LINK.fullmatch(str(text)))}
        self._targets = {key: link[1] for key, link in links.items()}
        self._same = {key for key, link in links.items() if link[0] == f"${{{link[1]}}}"}
        complete = all(not below(key, needed) or lookup(config, key, missing) is not missing for key in defaults)
        self._usable = complete and all(_VARIABLE.fullmatch(str(texts[key])) for key in texts.keys() - links.keys())

    @property
    def is_out_of_date(self) -> bool:
        """Whether a variable of the environment that stands in it has changed."""
        return any(os.environ.get(name) != value for name, value in self._variables.items())

    def compose(self, values: Sequence[Override]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The config with values set, and its deviations.

        None where a value is not plain, or changes more than is known here.
        """
        if not self._usable:
            return None
        changed: dict[str, Any] = {}
        for override in values:
            key, value = override.key_or_group, override.value()
            old = self._flat.get(key, self)
            plain = type(value) in _SCALAR and type(old) in _SCALAR and "${" not in str(value)
            if override.type != OverrideType.CHANGE or override.package or not plain or value == old == "???":
                return None
            if isinstance(value, str) and (value == "???" or old == "???"):
                return None
            changed[key] = value
        followed = dict(changed)
        for key, target in self._targets.items():
            if key in changed:
                continue
            touching = [other for other in followed if below(other, [target]) or below(target, [other])]
            if touching and (key not in self._same or touching != [target]):
                return None
            if touching:
                if any(target_of == key for target_of in self._targets.values()):
                    return None  # a link to a link
                followed[key] = followed[target]
        config = pickle.loads(self._config)
        for key, value in followed.items():
            *parents, leaf = key.split(".")
            node = config
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        missing = object()
        differs = {key: value for key, value in self._differs.items() if key not in followed}
        for key, value in followed.items():
            unresolved = value if key in changed else self._flat[key]
            as_before = is_equal(key, self._reference.get(key, missing), unresolved)
            if not as_before and not is_equal(key, self.defaults.get(key, missing), value):
                differs[key] = value
        ordered = {key: differs[key] for key in sorted(differs, key=self._place.__getitem__)}
        return config, self._choices | ordered
