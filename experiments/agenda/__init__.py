"""What is worth measuring, in order, and whether it was measured."""
