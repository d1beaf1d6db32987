//! What can be seen of a statement without a parser: its shape, and what it does to its session.
