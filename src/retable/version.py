"""The version, which the distribution, the index of a folder and `--version` have from here."""

__version__ = "0.2.0"
