"""What a machine makes of the service: speed, latency and memory, each beside a baseline of the same run."""
