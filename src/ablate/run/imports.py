"""Importing what every run needs, in one place and as fast as it goes."""

import gc
import importlib


def import_all() -> None:
    """Import torch, Lightning and what a run uses of this package (about five seconds of CPU time).

    Python's cyclic garbage collector runs hundreds of times meanwhile and finds next to nothing: without it the imports
    take an eighth less time. The half a million objects that they leave behind live as long as the process; frozen,
    they are not looked through again by each full collection (0.4 s each), and a forked child doesn't copy their pages.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in ("ablate.run.execute", "ablate.run.figures", "torch.utils.tensorboard"):
            importlib.import_module(name)
    finally:
        if was_enabled:
            gc.enable()
    gc.freeze()
