"""The running process: adapters for the handlers' ports, and the only place that starts anything."""
