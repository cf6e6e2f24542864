"""An ablation study as code: one YAML file per published table goes in, the regenerated table comes out."""

__version__ = "0.1.0"
