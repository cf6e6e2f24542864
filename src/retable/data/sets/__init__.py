"""Which files make up a task's data set, and how they are read."""
