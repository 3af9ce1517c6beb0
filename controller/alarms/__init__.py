"""Alarms: the feed actions of whisk.system/alarms, and the loop that fires triggers when they are due."""
