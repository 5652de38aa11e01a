"""What a stack costs: a table of prices, calls counted in the embedded cloud, and the page made of both."""
