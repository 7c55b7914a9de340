"""Local rewrites, one file for each kind of operation; normalise and simplify say which they use."""
