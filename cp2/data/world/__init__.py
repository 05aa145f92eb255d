"""The demo world: small drawn scenes in archives laid out as the official ones.

The downloader reads them by file:// URL; from there on nothing knows that this is a demo.
"""

from cp2.data.world.write import write_world

__all__ = ["write_world"]
