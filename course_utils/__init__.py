"""The package behind the course: one module per lecture, and the few things that the lectures share."""
