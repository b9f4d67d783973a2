"""The contracts: what is committed equals the models, keeps every promise made, and is documented."""
