"""What a tenant can find out for himself, with nothing but the API and NBD."""
