"""What crosses a wire: frozen Pydantic models without behaviour, and the JSON Schemas made from them."""
