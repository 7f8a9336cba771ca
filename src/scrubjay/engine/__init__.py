"""The engine: one volume's log, its maps, its cleaning, its recovery; no I/O of its own."""
