"""Stain per nucleus, and statistics of the positive share: made for Ki-67, used for every nuclear marker."""
