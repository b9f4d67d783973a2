"""SLAs by configuration: their texts read and checked, and those that come with the service."""
