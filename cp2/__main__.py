"""`python -m cp2` is the same as `cp2`."""

from cp2.cli import main

main()
