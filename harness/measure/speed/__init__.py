"""Speed of a compressed model beside its baseline: runtimes, clocks, ratios, the roofline."""
