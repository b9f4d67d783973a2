"""The demo: scenarios played against a real broker, database and worker, each checking itself from outside."""
