"""What runs on the borrowed machine: read as data, never imported here."""
