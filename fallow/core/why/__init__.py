"""The story of a call: what was chosen, waited for and paid, and why."""
