"""What `scripts/docs` does besides building the site: generated pages, diagrams, checks of the result."""
