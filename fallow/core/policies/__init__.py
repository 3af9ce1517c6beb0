"""Placement policies. Importing this package registers every policy that Fallow brings: a new one is imported here."""

from fallow.core.policies import hashing as hashing
from fallow.core.policies import jsq as jsq
from fallow.core.policies import mws as mws
from fallow.core.policies import power_of_two as power_of_two
