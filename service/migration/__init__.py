"""Many workflows moved to another version of their definition: what that would do, and doing it."""
