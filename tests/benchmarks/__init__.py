"""The benchmarks: the gateway beside its peers on the same work, as `make bench` runs them."""
