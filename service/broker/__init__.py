"""Kafka's side of the ports: what is published, what is read, and the topics themselves."""
