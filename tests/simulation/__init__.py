"""The worker, unchanged, on a seeded event loop with a broker and a store in memory: every seed is another bad day."""
