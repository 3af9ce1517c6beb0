"""The controller's brain: `state.ClusterState` and its parts."""
