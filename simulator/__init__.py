"""The live scheduler in virtual time: the objects of `fallow.core` around which a controller, VMs and time are simulated."""
