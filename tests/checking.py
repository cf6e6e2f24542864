"""What every command does with a config before it trains."""

from typing import Any

from retable.config.validate import validate
from retable.run import assemble


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Validate its values, then build everything of it.  Raises: ConfigError, DataError."""
    validate(config)
    return assemble.check(config)
