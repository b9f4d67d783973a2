"""Remote policy engines for the tests: one that does as a test says, and a real OPA."""
