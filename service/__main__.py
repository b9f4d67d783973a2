"""`python -m service` is the turnstile command, for whoever starts it without knowing where it is installed."""

from service.cli.entry import main

main()
