"""Masked language modelling: sentences or text of which some tokens are hidden."""
