"""Arithmetic on tokens: which of them to combine is the intermediate step."""
