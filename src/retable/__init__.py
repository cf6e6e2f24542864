"""An ablation study as code: one YAML file per published table goes in, the regenerated table comes out.

From Python: `retable.sweep("task=cifar", "dropout=0.2,0.3")` does what `python train.py -m` does and returns the table.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.2.0"
__all__ = ["sweep"]


def sweep(*overrides: str) -> "pd.DataFrame":
    """Run a sweep and return its table: a row a run with what varies, the final metrics, status, time and directory.

    Args:
        overrides: as on the command line, e.g. "experiment=cifar/dropout", "trainer.max_epochs=5", "seeds=3".

    Raises:
        retable.errors.RetableError: one line, for what is refused before anything runs. Runs that fail do not raise:
            their rows say `failed`.
    """
    import pandas as pd

    from retable.sweeps import results
    from retable.sweeps.session import sweep as run_sweep

    plan, _ = run_sweep(list(overrides))
    return pd.DataFrame(results.rows(plan.runs))
