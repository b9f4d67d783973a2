"""The `turnstile` command: each verb a thin function over what the service already does."""
