"""How well predictions match the truth, from counts."""
