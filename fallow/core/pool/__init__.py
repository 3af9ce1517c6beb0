"""The invoker's brain: `state.PoolState` and its parts."""
