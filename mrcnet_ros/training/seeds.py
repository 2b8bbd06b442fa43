"""Seeds of what no training draws: primes that the seed of a configuration is unlikely to be."""

VALIDATION_SEED = 1_000_003  # of images that are validated on while a training runs
TEMPLATE_CHOICE = 2_000_003  # of the templates that stage 2 starts from in training
HELD_OUT_SEED = 3_000_017  # of images that finished models are measured on
