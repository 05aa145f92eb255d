"""Random numbers, crop boxes and foreground masks: drawn by the workers, asked by the plan."""
