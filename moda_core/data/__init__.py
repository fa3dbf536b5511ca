"""Images and labels: reading them from files, holding them, and feeding them to a network."""
