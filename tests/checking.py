"""What every command does with a config before it trains."""

from typing import Any

import pytest

from retable.config.validate import validate
from retable.errors import ConfigError
from retable.run import assemble


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Validate its values, then build everything of it.  Raises: ConfigError, DataError."""
    validate(config)
    return assemble.check(config)


def refusal(config: dict[str, Any]) -> str:
    """The line with which it is refused."""
    with pytest.raises(ConfigError) as refused:
        check(config)
    return str(refused.value)
