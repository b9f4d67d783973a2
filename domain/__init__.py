"""The pure core: no await, clock, randomness, logging or SQL. What is decided depends on the arguments alone."""
