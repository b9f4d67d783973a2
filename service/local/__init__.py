"""A real Apache Kafka and a real PostgreSQL from installed packages, for a machine that has neither.

`stack.LocalStack` is the one thing the rest of the service uses; everything else here serves it.
"""
