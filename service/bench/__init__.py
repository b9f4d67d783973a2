"""What this machine makes of it: durable transitions per second, latency, memory, each beside a baseline of the same run."""
