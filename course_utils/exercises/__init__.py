"""The exercises: one module a lecture, and `checking`, what an exercise is and how an answer is judged."""

# Lecture → day from which `check.solution("1.1")` shows its solutions to everyone, such as {"1": "2026-12-01"}.
# For instructors to set; without a day a solution is shown once its exercise is solved, or after three failed tries.
SOLUTIONS_FROM: dict[str, str] = {}
