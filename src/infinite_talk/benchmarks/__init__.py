"""Measuring this machine: ``infinite-talk bench``. ``case`` says what, ``run`` does it, ``table`` shows it.

Weights are random and made on the device, so that nothing is downloaded; the real loop, codec and files are used.
What a measurement is compared with (products, attention, copies) is measured in the same process.
"""
