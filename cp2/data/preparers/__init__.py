"""Preparers: from archives, or a user's folder, to an index of checked images and labels."""

from cp2.data.preparers.registry import PREPARERS, prepare

__all__ = ["PREPARERS", "prepare"]
