"""Pictures of objects on a table with exact ground truth, and BOP datasets made of them."""
