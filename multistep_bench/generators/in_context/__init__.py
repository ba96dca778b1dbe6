"""What in-context tasks are made of: episodes of labelled items, and sequences with a rule of their own."""
