"""The shared, pure vocabulary of mce: resources, names, route table, errors, wire.

Everybody may import it; it imports the standard library and pydantic only (what the router needs of it: no pydantic),
does no I/O and knows no clock.
"""
