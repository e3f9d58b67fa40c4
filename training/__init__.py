"""The application: training tasks, their life, and the adapters that speak to the world."""
