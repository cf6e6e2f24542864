"""What an experiment file means: grid, table, metrics, claims. Below sweeps and report, which both use it."""
