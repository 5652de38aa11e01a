"""What the control plane dials itself, as a person's browser would: the edge over HTTPS, a stream over WSS."""
