"""Networks, one an option of conf/model. A new one is a file here, a line below and a file in conf/model."""

import lazy_loader

# The public names that conf/ gives in `_target_`: a module may move, they stay. Nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cnn": ["CNN"],
        "fnn": ["FNN", "NumpyFNN"],
        "segnet": ["SegNet"],
        "fcn": ["FCN"],
        "fcn_small": ["SmallFCN"],
        "mobilenet_decoder": ["MobileNetDecoder"],
        "unet": ["UNet"],
        "smp": ["SMP"],
        "retinanet": ["RetinaNet"],
    },
)
