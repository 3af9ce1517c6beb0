"""Sequences and conductors: compositions of actions, whose parts are activations of their own."""
