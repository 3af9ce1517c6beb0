"""The invoker: runs activations on one VM, for every controller of the cluster."""
