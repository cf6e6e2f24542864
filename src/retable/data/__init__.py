"""Data: readers of each file format, sets made of them, arrays cached once, tensors on the device, mini-batches.

`formats` reads files, `sets` says which files make up a task's set, `samples` makes small synthetic sets.
"""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "arrays": ["ImageSet", "Splits", "blank"],
        "module": ["ImageData"],
        "formats.pictures": ["read_image"],
        "sets.cifar": ["CifarData"],
        "sets.mnist": ["MnistData"],
        "sets.brain": ["BrainData"],
        "sets.gland": ["GlandData"],
        "sets.lesion": ["LesionData"],
        "sets.fcn": ["FcnData"],
        "sets.ventricle": ["VentricleData"],
        "sets.wildlife": ["WildlifeData"],
    },
)
