//! Logging in, sans I/O: a client here, and the pooler at a server.
