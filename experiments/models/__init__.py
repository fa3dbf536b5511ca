"""Trained models on the disk: trained once, found again, decomposed, evaluated."""
