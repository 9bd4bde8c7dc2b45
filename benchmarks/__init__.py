"""Scripts that measure, and the results they wrote. Ratios are taken in turns, on the same work."""
