"""What `fallow compare` runs."""
