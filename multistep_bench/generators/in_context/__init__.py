"""In-context learning: the rule of a sample stands in the sample itself."""
