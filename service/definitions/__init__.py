"""Definition documents: reading YAML with its places, and the definitions that ship with the service."""
