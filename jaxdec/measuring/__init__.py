"""Measuring: times apart from compilation, comparisons of decoders, facts about the machine."""
