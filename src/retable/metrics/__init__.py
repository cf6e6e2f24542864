"""How well predictions match the truth, from counts: one file for each kind of task."""
