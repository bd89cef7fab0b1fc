"""The collector: what it makes of the browser SDK's own requests; values in, values out.

`routes` are its paths, `admission` says whose request is looked at, `rate_limit` how often, `decoding` reads
bodies, `ownership` compares IDs with the signed visitor, `addresses` takes secrets out of addresses.
"""
