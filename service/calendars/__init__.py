"""Calendar documents: reading YAML with its places, and the zones and public holidays that they name."""
