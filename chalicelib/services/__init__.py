"""One use case a file. Services speak to the world through the ports only."""
