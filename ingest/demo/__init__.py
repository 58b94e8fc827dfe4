"""The demonstration: everything the product does, on a bare machine, in about a minute.

`story` tells it, `embedded` brings the two servers, `shop` and `books` make up the events and know what has to come
out, `live` shows it happening. Nothing here is used by the worker.
"""
