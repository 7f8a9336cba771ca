"""The NBD protocol as bytes in, events out; sockets live in ``scrubjay.export``.

``handshake`` brings a connection from its greeting to the transmission phase,
``transmission`` judges requests and packs replies, ``requests`` turns a byte stream into
events, and ``client`` is the other end of the wire. ``docs/nbd.md`` says which parts of
the protocol are spoken and what was decided where the specification leaves a choice.
"""
