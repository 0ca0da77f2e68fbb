"""The wire formats between a caller and us."""
