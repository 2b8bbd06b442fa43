"""Training the published network on BOP images."""
