"""Oracles, exact enumeration and the conformance battery: public, for anybody who writes a drafter or a decoder."""
