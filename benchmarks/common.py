"""What the benchmarks share: the machine in words, and where results go."""

import json
import re
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from ablate.run import facts

RESULTS = Path(__file__).parent / "results"


def save(name: str, values: dict[str, Any], device: str = "cpu") -> Path:
    """Write a result file named by benchmark and hardware, with versions and date."""
    hardware = facts.device(device)
    slug = re.sub(r"[^a-z0-9]+", "-", hardware["name"].lower()).strip("-")
    path = RESULTS / f"{name}-{slug}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"benchmark": name, "date": date.today().isoformat(), "device": hardware, "versions": facts.versions()}
    path.write_text(json.dumps(content | values, indent=2) + "\n")
    return path


def ratios(left: list[float], right: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the pairwise ratios left / right."""
    pairs = [one / other for one, other in zip(left, right, strict=True)]
    return {"median": round(median(pairs), 4), "min": round(min(pairs), 4), "max": round(max(pairs), 4)}
