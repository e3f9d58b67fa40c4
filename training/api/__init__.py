"""The only HTTP JSON: reads input, checks access, calls one function, shapes the answer."""
