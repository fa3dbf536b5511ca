"""Models composed from modules for sub-tasks: how well they do and what they cost (RQ2 to RQ4)."""
