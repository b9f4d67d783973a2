"""What runs Turnstile beyond one process: image, compose file, monitoring, Kubernetes."""
