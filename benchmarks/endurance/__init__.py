"""How the service lasts: what the soak and the overload are made of."""
