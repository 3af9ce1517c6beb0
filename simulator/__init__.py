"""The live scheduler in virtual time: the deciding objects of `fallow.core` in a simulated world."""
