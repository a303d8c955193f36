"""Figures: tables in, matplotlib figures out. One message, one theme, readable on a phone."""
