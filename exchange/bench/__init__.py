"""What the clearing house costs, measured against PostgreSQL itself."""
