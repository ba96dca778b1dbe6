"""Images on a grid of tiles."""
