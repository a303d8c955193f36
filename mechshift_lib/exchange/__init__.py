"""Circuits in the forms of peers: EAP-IG's graph and the circuit track of the MIB benchmark."""
