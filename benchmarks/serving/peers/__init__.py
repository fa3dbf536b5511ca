"""The peers' servers: each runs in a virtual environment of its own, on our models."""
