"""Result files read again: which model counts, and what rows say together."""
