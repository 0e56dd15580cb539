"""Getting the models: what there is (``catalogue``), where it is kept (``store``), and how it comes (``pull``)."""
