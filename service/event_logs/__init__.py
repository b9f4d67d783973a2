"""Event logs of real processes as input: each case becomes a workflow, each event a transition."""
