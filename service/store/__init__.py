"""The truth in PostgreSQL: what is claimed, loaded and applied, and how its schema came to be."""
