"""The collector of the browser SDK's own requests; values in, values out.

`routes` are its paths, `admission` decides which requests are read, `rate_limit` how often, `decoding` reads
bodies, `ownership` compares IDs with the signed visitor, `addresses` takes secrets out of addresses.
"""
