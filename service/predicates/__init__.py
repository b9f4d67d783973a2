"""The predicate engines: each answers a guard's question with a verdict, and never raises."""
