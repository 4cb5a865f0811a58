"""A service that keeps short notes in a folder."""
