"""The tables of the page, one file for each thing that was measured."""
