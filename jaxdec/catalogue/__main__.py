"""Prints the table of methods."""

from jaxdec.catalogue import markdown

print(markdown())
