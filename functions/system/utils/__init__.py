"""The actions of the package whisk.system/utils: small things to join others with, as OpenWhisk has them."""
