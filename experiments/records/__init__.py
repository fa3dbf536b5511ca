"""Result files, and the conditions that their rows were measured under."""
