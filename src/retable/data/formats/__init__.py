"""Readers of file formats, one a module."""
