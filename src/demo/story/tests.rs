//! What is judged and what is written, on plain values; the story itself is run by the tests of the whole node.
