"""Speed of the pipeline beside the published recipe and the machine's limits; see docs/speed.md."""
