"""Attention kernels: agreement, inputs, choice."""
