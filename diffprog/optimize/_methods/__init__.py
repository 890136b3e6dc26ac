"""Optimizers, one file each: black box, first order, second order."""
