"""The published figures, run again on the live scheduler in virtual time, and what they claim held against it."""
