"""Small synthetic data sets in the real sets' file formats."""
