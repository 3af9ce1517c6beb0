"""The benchmark functions as part of a replay: what they cost, and which calls run on them."""
