"""What is drawn with matplotlib of a run."""
